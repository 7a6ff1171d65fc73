"""What several test files use."""

import re

import numpy as np
from hypothesis import strategies as st

import lrp_toolbox as lrp
from lrp_toolbox.cli import main
from lrp_toolbox.testing import to_fractions

CODE = re.compile(r"^( *)```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

# floats that formulas stumble over
ODD = [0.0, -0.0, 1.0, -1.0, 1e-40, -1e-40, 5e-324, 3e38, float("inf"), -float("inf")]


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def closes(e, tolerance):
    """Σ R_in plus the ledger is Σ R_out, up to rounding of the largest amount on the way."""
    largest = np.max([abs(page.arriving) + abs(page.absorbed) for page in e.ledger], axis=0)
    end = e.R.astype(np.float64).sum(axis=tuple(range(e.ledger.start.ndim, e.R.ndim)))
    absorbed = sum(e.ledger.absorbed(reason) for reason in ("bias", "eps", "zero_denominator", "padding"))
    return np.all(abs(e.ledger.start - end - absorbed) <= tolerance * largest)


def blocks(text):
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, code in CODE.findall(text)]


def opencv(prototxt, weights, x, layer):
    """What OpenCV computes: x (sample, height, width, channel) → (sample, class)."""
    import cv2

    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))
    net.setInput(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    return net.forward(layer).reshape(len(x), -1)


def agree(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


def small_cnn(rng, dtype="float64", scale=1.0):
    """A CNN with every kind of layer that has a fast or a special path, of well-behaved random weights."""

    def w(*shape):
        return (rng.standard_normal(shape) * scale / np.sqrt(np.prod(shape[:-1]))).astype(dtype)

    return lrp.Sequential(
        conv1=lrp.Conv(w(3, 3, 3, 8), w(8) / 4, padding=1),
        relu1=lrp.ReLU(),
        pool1=lrp.MaxPool(3, 2, ((0, 1), (0, 1))),
        conv2=lrp.Conv(w(3, 3, 4, 8), w(8) / 4, padding=1, groups=2),
        relu2=lrp.ReLU(),
        lrn=lrp.LRN(3, 1e-2),
        branch=lrp.Concat(
            lrp.Sequential(c=lrp.Conv(w(1, 1, 8, 4), w(4) / 4), r=lrp.ReLU()),
            lrp.Sequential(c=lrp.Conv(w(3, 3, 8, 4), w(4) / 4, padding=2, dilation=2), r=lrp.ReLU()),
        ),
        residual=lrp.Add(lrp.Sequential(lrp.Conv(w(3, 3, 8, 8), w(8) / 4, padding=1), lrp.ReLU()), lrp.Identity()),
        pool2=lrp.AvgPool(2),
        flatten=lrp.Flatten(),
        fc1=lrp.Linear(w(8 * 3 * 3, 16), w(16) / 4),
        relu3=lrp.ReLU(),
        fc2=lrp.Linear(w(16, 5), w(5) / 4),
    )


@st.composite
def rngs(draw):
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def integers(rng, *shape, least=-3, most=3):
    """Fractions that are integers."""
    return to_fractions(rng.integers(least, most + 1, shape))


@st.composite
def broken(draw, content):
    """A file with some bytes changed, left out or put in."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content) - 1))
        how = draw(st.sampled_from(["flip", "set", "cut", "insert"]))
        if how == "flip":
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "set":
            content[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del content[at : at + draw(st.integers(1, 9))]
        else:
            content[at:at] = draw(st.binary(min_size=1, max_size=9))
        if not content:
            break
    return bytes(content)
