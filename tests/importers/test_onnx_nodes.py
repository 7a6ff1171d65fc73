"""ONNX's own tests of its operators: for each that is claimed here, their inputs give their outputs."""

import itertools
import warnings
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx.backend.test.loader import load_model_tests  # noqa: E402

from lrp_toolbox.importers.onnx.constants import FOLDS  # noqa: E402
from lrp_toolbox.importers.onnx.file import parse  # noqa: E402
from lrp_toolbox.importers.onnx.layers import LAYERS  # noqa: E402
from lrp_toolbox.importers.onnx.model import net_of  # noqa: E402
from lrp_toolbox.io import ModelFormatError  # noqa: E402

INTEGERS = "whole numbers: a net is of real ones"
CUBIC = "weights of both signs, cropping, or sizes that depend on the ratio of height and width"
EMPTY = "nothing is left"
DILATED = "pooling windows have no gaps here"
TRAINING = "nets are read as they are once training is over"
SHAPE = "a shape is no output of a net; shapes are computed when the file is read"
REFUSED = {  # names of their tests, as patterns, and why they are refused
    "test_*_int8": INTEGERS,
    "test_*_int16": INTEGERS,
    "test_*_uint*": INTEGERS,
    "test_div_int32_trunc": INTEGERS,
    "test_edge_pad": INTEGERS,
    "test_reflect_pad": INTEGERS,
    "test_clip_default_int8_*": INTEGERS,
    "test_cast_*FLOAT8*": "types of 8 bits and fewer: quantised nets are refused",
    "test_cast_*INT[24]*": "types of 8 bits and fewer: quantised nets are refused",
    "test_cast_*FLOAT4*": "types of 8 bits and fewer: quantised nets are refused",
    "test_averagepool_*_dilations*": DILATED,
    "test_maxpool_*_dilations*": DILATED,
    "test_batchnorm_*_training_mode": TRAINING,
    "test_training_dropout*": TRAINING,
    "test_clip_min_greater_than_max": "a lower bound above the upper one",
    "test_convtranspose_3d": "transposed convolutions have one or two axes of places here",
    "test_gather_2d_indices": "places of several axes at once",
    "test_gathernd_example_float32": "places of several axes at once",
    "test_gathernd_example_int32*": INTEGERS,
    "test_reduce_max_bool_inputs": "truth values",
    "test_gemm_default_matrix_bias": "a bias that differs between samples",
    "test_gemm_transposeA": "samples that become features",
    "test_gemm_all_attributes": "samples that become features",
    "test_identity_sequence": "no array",
    "test_identity_opt": "no array",
    "test_logsoftmax_*": "left off at the end of a net, and known nowhere else",
    "test_matmul_[34]d": "a product of two values, or a matrix for each sample",
    "test_matmul_1d_3d": "a product of two values, or a matrix for each sample",
    "test_matmul_bcast": "a product of two values, or a matrix for each sample",
    "test_wrap_pad": INTEGERS,
    "test_reduce_*_empty_set*": EMPTY,
    "test_reshape_allowzero_reordered": EMPTY,
    "test_split_zero_size_splits_*": EMPTY,
    "test_slice_start_out_of_bounds": EMPTY,
    "test_resize_*cubic*": CUBIC,
    "test_resize_*antialias": CUBIC,
    "test_resize_*half_pixel_symmetric": CUBIC,
    "test_resize_tf_crop_and_resize*": CUBIC,
    "test_resize_*_not_larger": CUBIC,
    "test_resize_*_not_smaller": CUBIC,
    "test_resize_downsample_scales_linear_align_corners": "corners that would be aligned with sizes that are no whole numbers",
    "test_shape*": SHAPE,
    "test_size*": SHAPE,
}
WITHOUT = {"GatherND", "LogSoftmax", "Shape", "Size", "Upsample"}  # no test of theirs passes, or there is none


def _theirs():
    """Their tests of an operator that is claimed here; and those of functions that consist of such operators alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = load_model_tests(kind="node")
    single, functions = [], []
    for test in tests:
        ops = [node.op_type for node in test.model.graph.node]
        if len(ops) == 1 and ops[0] in LAYERS and "_expanded" not in test.name:
            single.append(test)
        elif set(ops) <= {*LAYERS, *FOLDS} and set(ops) & {*LAYERS}:
            functions.append(test)
    return single, functions


def _numbers(a):
    return isinstance(a, (np.ndarray, np.generic)) and a.dtype.kind in "fiub"


def _array(a):
    """Their data, some of which are stored as in a file."""
    plain = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    if not isinstance(a, onnx.TensorProto) or a.data_type not in plain:
        return a
    return onnx.numpy_helper.to_array(a).astype(np.float64)


def _wirings(model, inputs):
    """Which inputs are values: all, all but one, or one; the others become constants of the file."""
    count = len(model.graph.input)
    some = [k for k in range(count) if _numbers(inputs[k])]
    found = []
    for n in sorted({len(some), len(some) - 1, 1} - {0}, reverse=True):
        found += itertools.combinations(some, n)
    return found


def _run(test, values, samples, output):
    """Our output, in ONNX's axes, with these inputs as values. Raises ModelFormatError or ValueError if that is refused."""
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    inputs = [_array(a) for a in test.data_sets[0][0]]
    for k, (value, a) in enumerate(zip(test.model.graph.input, inputs, strict=False)):
        if k not in values:
            a = a if isinstance(a, onnx.TensorProto) else onnx.numpy_helper.from_array(np.asarray(a))
            a.name = value.name
            model.graph.initializer.append(a)
    shapes = [inputs[k].shape for k in values]
    stored = parse(model.SerializeToString(), test.name, Path())
    shape = shapes[0] if len(shapes) == 1 else shapes
    net = net_of(stored, shape=shape, samples=samples, logits=False, dtype=np.float64, output=output)
    x = tuple(layout.to_ours(inputs[k].astype(np.float64)) for layout, k in zip(net.inputs, values, strict=True))
    with np.errstate(all="ignore"):
        y = net.net(x if len(x) > 1 else x[0])
    return net.output.to_onnx(y)


def outcome(test):
    """("passed", ways in which it ran), ("refused", the reason) or ("failed", the difference)."""
    inputs, outputs = ([_array(a) for a in part] for part in test.data_sets[0])
    names = [value.name for value in test.model.graph.output]
    if not inputs or not any(map(_numbers, inputs)):
        return "refused", "no input of numbers"
    rtol = 2**-8 if "to_BFLOAT16" in test.name else test.rtol  # a cast does not round here
    ways, reason = 0, ""
    for values in _wirings(test.model, inputs):
        for samples in (True, False):
            got = []
            try:
                for name in names:
                    got.append(_run(test, values, samples, name))
            except (ModelFormatError, ValueError) as error:
                if not (got and "at most 1 outputs" in str(error)):  # masks, indices and statistics are no values for us
                    reason = str(error)
                    continue
            ways += 1
            for y, expected in zip(got, outputs, strict=False):
                expected = np.asarray(expected)
                if y.shape != expected.shape:
                    return "failed", f"values {values}, samples {samples}: shape {y.shape}, expected {expected.shape}"
                if not np.allclose(y, expected.astype(np.float64), rtol, max(test.atol, 1e-6), equal_nan=True):
                    return "failed", f"values {values}, samples {samples}: {abs(y - expected).max()}"
    return ("passed", ways) if ways else ("refused", reason)


SINGLE, FUNCTIONS = _theirs()


def _reason(name):
    return next((reason for pattern, reason in REFUSED.items() if fnmatchcase(name, pattern)), None)


def _by_operator(tests):
    """For each operator, its tests."""
    found = {}
    for test in tests:
        found.setdefault(test.model.graph.node[0].op_type, []).append(test)
    return found


@pytest.mark.parametrize("op", sorted(_by_operator(SINGLE)))
def test_their_tests_of_the_operator_pass_or_are_refused_for_a_reason(op):
    outcomes = {test.name: outcome(test) for test in _by_operator(SINGLE)[op]}
    wrong = {}
    for name, (kind, what) in outcomes.items():
        if kind == "failed" or (kind == "refused") != (_reason(name) is not None):
            wrong[name] = kind, what
    assert not wrong
    assert op in WITHOUT or any(kind == "passed" for kind, _ in outcomes.values())


def test_operators_without_a_test_of_theirs_are_known():
    assert {*LAYERS} - {*_by_operator(SINGLE)} <= WITHOUT


@pytest.mark.slow
def test_functions_that_consist_of_our_operators_give_their_outputs_unless_they_are_refused():
    kinds = Counter(outcome(test)[0] for test in FUNCTIONS)
    assert kinds["failed"] == 0
    assert kinds["passed"] >= 20


if __name__ == "__main__":  # a table of how many there are
    total = Counter()
    print("| operator | tests | passed | refused |\n|---|---|---|---|")
    for op, tests in sorted(_by_operator(SINGLE).items()):
        kinds = Counter(outcome(test)[0] for test in tests)
        total += kinds
        print(f"| {op} | {len(tests)} | {kinds['passed']} | {kinds['refused']} |")
    print(f"| all | {sum(total.values())} | {total['passed']} | {total['refused']} |")
