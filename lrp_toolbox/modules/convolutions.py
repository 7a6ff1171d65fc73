"""Convolutions beside `Conv`: transposed, and over one or three axes of places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import backend, kernels
from ..backend import Array, namespace
from ..kernels.windows import Padding, Windows, as_padding, as_paddings, as_pair, as_sizes, sum_of_groups, to_groups
from ..weights import ONE, Given, Weights, as_weights
from .base import LinearModule, Shape
from .linear import Conv, Mixing, _lengths, _require_bias


def _require_groups(groups: int, name: str, n: int) -> None:
    if not isinstance(groups, int) or isinstance(groups, bool) or groups < 1 or n % groups:
        raise ValueError(f"groups: {groups} groups do not divide {n} {name}")


def _require_map(layer: LinearModule, shape: Shape, form: str, channels: int) -> None:
    if len(shape) < layer.axes or shape[-1] != channels:
        raise ValueError(f"x: {type(layer).__name__} expects {channels} features in (…, {form}), got shape {tuple(shape)}")


@dataclass(frozen=True, eq=False)
class ConvTranspose(Mixing):
    """The transpose of a convolution: (…, height, width, in) → (…, rows, columns, out).

        y[r, :] = Σ_k x[(r + p − d k) / s, :] w[k, :, :] + b    over the taps k for which (r + p − d k) / s is a place of x

    for each of the two axes, with stride s, dilation d and p places cut off by the padding. So each place of x spreads over a
    window of y: rows = (height − 1) s − top − bottom + d (kernel height − 1) + 1 + output_padding.

    `output_padding` (below the stride) adds rows at the end, which a convolution with this stride would not look at. Options
    as in `Conv`. All rules hold, since y is linear in x: z_ij = x_i w_ij, with the places j that i spreads over. An output that
    no input reaches, between two places of a large stride for example, gets its bias only: its relevance goes to the bias
    or, under ♭ and w², nowhere (the ledger has it as padding).
    """

    w: Array  # (kernel height, kernel width, in, out / groups)
    b: Array | None = None  # (out)
    stride: int | Sequence[int] = 1
    padding: Padding = 0
    output_padding: int | Sequence[int] = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1

    axes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if len(self.w.shape) != 4:
            form = "(kernel height, kernel width, in, out / groups)"
            raise ValueError(f"w: expected {form}, got shape {tuple(self.w.shape)}")
        _require_groups(self.groups, "inputs", self.w.shape[2])
        _require_bias(self, self.channels[1])
        stride = as_pair("stride", self.stride, 1)
        extra = as_pair("output_padding", self.output_padding, 0)
        if any(n >= s for n, s in zip(extra, stride, strict=True)):
            raise ValueError(f"output_padding: expected less than the stride, {stride}, got {self.output_padding}")
        object.__setattr__(self, "stride", stride)
        object.__setattr__(self, "padding", as_padding(self.padding))
        object.__setattr__(self, "output_padding", extra)
        object.__setattr__(self, "dilation", as_pair("dilation", self.dilation, 1))

    @property
    def windows(self) -> Windows:
        """The windows on y, one for each place of x, over which that place spreads."""
        return Windows(tuple(self.w.shape[:2]), self.stride, self.padding, self.dilation)  # type: ignore[arg-type]

    @property
    def channels(self) -> tuple[int, int]:
        """How many channels go in, and how many come out."""
        return self.w.shape[2], self.w.shape[3] * self.groups

    def apply(self, x: Array, w: Any) -> Array:
        size = self.output_shape(x.shape)[-3:-1]
        if w is ONE:
            spread = self.windows.sum_T(sum_of_groups(x, self.groups), size)
            return to_groups(spread, self.groups, self.channels[1])
        y = kernels.of(x, self.w).correlate_T(x, self._swapped(w), self.windows, size, self.groups)
        return self._regrouped(y, self.groups)

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        if w is ONE:
            return to_groups(self.windows.sum(sum_of_groups(s, self.groups)), self.groups, self.channels[0])
        s = self._regrouped(s, s.shape[-1] // self.channels[1])
        return kernels.of(s, self.w).correlate(s, self._swapped(w), self.windows, self.groups)

    @staticmethod
    def _swapped(w: Any) -> Given:
        """The weights of the convolution that goes from y to x."""
        array = as_weights(w).array()
        return Given(namespace(array).permute_dims(array, (0, 1, 3, 2)))

    def _regrouped(self, y: Array, outer: int) -> Array:
        """Channels in the order (group, part, output) as (part, group, output), for `outer` groups; `outer` parts: back.

        A convolution keeps the outputs of a group together; a rule with several parts keeps those of a part together.
        """
        inner = y.shape[-1] // (outer * self.w.shape[3])
        if 1 in (outer, inner):
            return y
        xp = namespace(y)
        apart = xp.reshape(y, (*y.shape[:-1], outer, inner, self.w.shape[3]))
        return xp.reshape(xp.moveaxis(apart, -2, -3), y.shape)

    def _lengths_of(self, w: Weights) -> Array:
        a = w.array()  # (kernel height, kernel width, in, outputs of the group)
        xp, (*taps, _, outputs) = namespace(a), a.shape
        apart = xp.permute_dims(xp.reshape(a, (*taps, self.groups, -1, outputs)), (0, 1, 3, 2, 4))
        return _lengths(xp.reshape(apart, (-1, self.groups * outputs)))

    def sees_only_padding(self, x: Array) -> Array | None:
        """The outputs that no input reaches."""
        size = self.output_shape(x.shape)[-3:-1]
        reached = self.windows.sum_T(backend.ones((*x.shape[-3:-1], 1), x), size)
        return None if bool(namespace(x).all(reached > 0)) else reached == 0

    def output_shape(self, shape: Shape) -> Shape:
        _require_map(self, shape, "height, width, channel", self.channels[0])
        windows = self.windows
        size = []
        for n, s, d, k, pair, extra in zip(
            shape[-3:-1],
            windows.stride,
            windows.dilation,
            windows.kernel,
            windows.padding,
            self.output_padding,  # type: ignore[arg-type]
            strict=True,
        ):
            size.append((n - 1) * s + d * (k - 1) + 1 - sum(pair) + extra)
        if min(size) < 1:
            raise ValueError(f"x: {type(self).__name__} leaves nothing of a map of {tuple(shape[-3:-1])}")
        return (*shape[:-3], *size, self.channels[1])


class _OtherAxes(Mixing):
    """A convolution over one or three axes of places, by convolutions over two, whose kernels are fast."""

    w: Array
    b: Array | None
    stride: int | Sequence[int]
    padding: Padding
    dilation: int | Sequence[int]
    groups: int

    form: ClassVar[str]  # the axes of x
    taps: ClassVar[str]  # those of the kernel

    def __post_init__(self) -> None:
        n = self.axes - 1
        if len(self.w.shape) != n + 2:
            raise ValueError(f"w: expected ({self.taps}, in / groups, out), got shape {tuple(self.w.shape)}")
        _require_groups(self.groups, "outputs", self.w.shape[-1])
        _require_bias(self, self.w.shape[-1])
        object.__setattr__(self, "stride", as_sizes("stride", self.stride, 1, n))
        object.__setattr__(self, "padding", as_paddings(self.padding, n))
        object.__setattr__(self, "dilation", as_sizes("dilation", self.dilation, 1, n))

    @property
    def windows(self) -> Windows:
        return Windows(tuple(self.w.shape[:-2]), self.stride, self.padding, self.dilation)  # type: ignore[arg-type]

    @property
    def channels(self) -> tuple[int, int]:
        """How many channels go in, and how many come out."""
        return self.w.shape[-2] * self.groups, self.w.shape[-1]

    @property
    def plane(self) -> Conv:
        """The convolution over two axes that does the work."""
        raise NotImplementedError

    def join(self, arrays: Sequence[Array]) -> Array:
        return self.plane.join(arrays)

    def join_times(self, R: Array, factors: Sequence[Any]) -> Array:
        return self.plane.join_times(R, factors)

    def separate(self, z: Array, n: int) -> list[Array]:
        return self.plane.separate(z, n)

    def sees_only_padding(self, x: Array) -> Array | None:
        return self.windows.sees_only_padding(x)

    def output_shape(self, shape: Shape) -> Shape:
        _require_map(self, shape, self.form, self.channels[0])
        return (*shape[: -self.axes], *self.windows.counts(shape[-self.axes : -1]), self.channels[1])


@dataclass(frozen=True, eq=False)
class Conv1D(_OtherAxes):
    """A convolution over sequences: (…, length, in) → (…, places, out). Options as in `Conv`, with one number for the axis.

    `padding`: an int, or (before, after).
    """

    w: Array  # (kernel length, in / groups, out)
    b: Array | None = None  # (out)
    stride: int | Sequence[int] = 1
    padding: Padding = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1

    axes: ClassVar[int] = 2
    form: ClassVar[str] = "length, channel"
    taps: ClassVar[str] = "kernel length"

    @property
    def plane(self) -> Conv:
        """The same convolution on maps of height 1."""
        windows = self.windows
        return Conv(
            self.w[None, ...], None, (1, *windows.stride), ((0, 0), *windows.padding), (1, *windows.dilation), self.groups
        )

    def apply(self, x: Array, w: Any) -> Array:
        self.output_shape(x.shape)  # raises errors in the words of one axis
        return self.plane.apply(x[..., None, :, :], self._lifted(w))[..., 0, :, :]

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        s = s[..., None, :, :]
        return self.plane.apply_T(s, self._lifted(w), (*shape[:-2], 1, *shape[-2:]))[..., 0, :, :]

    @staticmethod
    def _lifted(w: Any) -> Any:
        return w if w is ONE else as_weights(w).array()[None, ...]


@dataclass(frozen=True, eq=False)
class Conv3D(_OtherAxes):
    """A convolution over volumes: (…, depth, height, width, in) → (…, slices, rows, columns, out). Options as in `Conv`.

    `stride`, `dilation`: an int or (depth, height, width). `padding`: an int, one for each axis, or (before, after) for each.
    It is a sum over the taps along the depth, and each of these is a convolution of slices.
    """

    w: Array  # (kernel depth, kernel height, kernel width, in / groups, out)
    b: Array | None = None  # (out)
    stride: int | Sequence[int] = 1
    padding: Padding = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1

    axes: ClassVar[int] = 4
    form: ClassVar[str] = "depth, height, width, channel"
    taps: ClassVar[str] = "kernel depth, kernel height, kernel width"

    @property
    def plane(self) -> Conv:
        """The convolution of slices: of the first tap along the depth."""
        windows = self.windows
        return Conv(self.w[0, ...], None, windows.stride[1:], windows.padding[1:], windows.dilation[1:], self.groups)

    def apply(self, x: Array, w: Any) -> Array:
        outputs = self.channels[1] if w is ONE else as_weights(w).shape[-1]
        plane, y = self.plane, backend.zeros((*self.output_shape(x.shape)[:-1], outputs), x)
        for tap, given, seen in self._along_the_depth(x.shape[-4]):
            y[..., given, :, :, :] += plane.apply(x[..., seen, :, :, :], self._tap(w, tap))
        return y

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        plane, x = self.plane, backend.zeros((*s.shape[:-4], *shape[-4:]), s)
        for tap, given, seen in self._along_the_depth(shape[-4]):
            x[..., seen, :, :, :] += plane.apply_T(s[..., given, :, :, :], self._tap(w, tap), shape)
        return x

    @staticmethod
    def _tap(w: Any, tap: int) -> Any:
        return w if w is ONE else as_weights(w).rows((tap, ...))

    def _along_the_depth(self, n: int) -> Iterator[tuple[int, slice, slice]]:
        """For each tap along the depth that sees any of `n` slices: the windows that see some by it, and what they see."""
        windows = self.windows
        stride, (before, after), step = windows.stride[0], windows.padding[0], windows.dilation[0]
        count = Windows(windows.kernel[:1], (stride,), ((before, after),), (step,)).counts((n,))[0]
        for tap in range(windows.kernel[0]):
            start = tap * step - before  # where window 0 looks by this tap; window k looks at start + k · stride
            first = max(0, -(start // stride))
            stop = min(count, (n - 1 - start) // stride + 1)
            if first < stop:
                at = start + first * stride
                yield tap, slice(first, stop), slice(at, start + (stop - 1) * stride + 1, stride)
