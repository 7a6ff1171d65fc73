"""LRP on dense and convolutional nets, written from README.md alone, by someone who has no LRP toolbox. It needs NumPy.

python conformance/example.py runs the cases that it can express, and says how many agree.
"""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np


class NotHereError(Exception):
    """A layer, a rule or an option that this script does not have."""


def array(nested):
    return np.vectorize(lambda v: float(Fraction(v)))(np.array(nested, dtype=object)).astype(float)


# ---- Layers that add up, as a matrix: W (in, out), and M, which says what is connected ---------------------------------


def dense(node, shape):
    W = array(node["w"])
    return W, np.ones_like(W), W.shape[1:]


def conv2d(node, shape):
    w = array(node["w"])
    kh, kw, inside, outputs = w.shape
    groups, (sh, sw), (dh, dw), ((top, bottom), (left, right)) = (node[k] for k in ("groups", "stride", "dilation", "padding"))
    height, width, channels = shape
    rows = (height + top + bottom - dh * (kh - 1) - 1) // sh + 1
    columns = (width + left + right - dw * (kw - 1) - 1) // sw + 1
    W = np.zeros((height, width, channels, rows, columns, outputs))
    M = np.zeros_like(W)
    for r, c, i, j in np.ndindex(rows, columns, kh, kw):
        y, x = r * sh - top + i * dh, c * sw - left + j * dw
        if 0 <= y < height and 0 <= x < width:
            for g in range(groups):
                ins, outs = slice(g * inside, (g + 1) * inside), slice(g * outputs // groups, (g + 1) * outputs // groups)
                W[y, x, ins, r, c, outs] = w[i, j, :, outs]
                M[y, x, ins, r, c, outs] = 1
    out = (rows, columns, outputs)
    return W.reshape(-1, rows * columns * outputs), M.reshape(-1, rows * columns * outputs), out


# ---- Equation 1 ------------------------------------------------------------------------------------------------------


def positive(v):
    return np.maximum(v, 0)


def equation_1(z, b, R, M, rule, eps=0.0):
    """z (in, out): z_ij. What the inputs get of R (out)."""
    b = 0 * b if rule["bias"] == "ignore" else b
    z_j = z.sum(axis=0) + b
    d = z_j + eps * np.where(z_j >= 0, 1, -1)
    s = np.divide(R, d, out=np.zeros_like(R), where=d != 0)
    given = z @ s
    if rule["bias"] == "distribute":
        given = given + M @ np.divide(b * s, M.sum(axis=0), out=np.zeros_like(R), where=M.sum(axis=0) > 0)
    return given


def back(rule, x, W, M, b, R):
    z, name = x[:, None] * W, rule["name"]
    if name in ("z", "epsilon"):
        return equation_1(z, b, R, M, rule, float(Fraction(rule.get("eps", 0))))
    if name == "alphabeta" and rule["empty_part"] == "lost":
        alpha, beta = (float(Fraction(rule[k])) for k in ("alpha", "beta"))
        up = equation_1(positive(z), positive(b), alpha * R, M, rule)
        return up + equation_1(-positive(-z), -positive(-b), beta * R, M, rule)
    if name == "zplus":
        return equation_1(positive(z), positive(b), R, M, rule)
    if name == "flat":
        return equation_1(M, b, R, M, rule)
    if name == "wsquare":
        return equation_1(W**2, b, R, M, rule)
    raise NotHereError(name)


# ---- Nets ------------------------------------------------------------------------------------------------------------


def explain(case):
    """The relevance of the input."""
    values, layers = {"input": array(case["input"]["input"])}, {}
    for node in case["net"]["nodes"]:
        kind, x = node["layer"], values[node["reads"][0]]
        if kind in ("dense", "conv2d"):
            W, M, shape = (dense if kind == "dense" else conv2d)(node, x.shape)
            b = np.zeros(W.shape[1]) if node["b"] is None else np.resize(array(node["b"]), W.shape[1])
            layers[node["name"]] = W, M, b
            values[node["name"]] = (x.reshape(-1) @ W + b).reshape(shape)
        elif kind in ("relu", "flatten", "dropout"):
            values[node["name"]] = {"relu": positive(x), "flatten": x.reshape(-1), "dropout": x}[kind]
        else:
            raise NotHereError(kind)
    R = {case["net"]["output"]: array(case["start"]["relevance"])}
    for node in reversed(case["net"]["nodes"]):
        name, [reads] = node["name"], node["reads"]
        x, arriving = values[reads], R[name].reshape(-1)
        given = back(node["rule"], x.reshape(-1), *layers[name], arriving) if name in layers else arriving
        R[reads] = R.get(reads, 0) + given.reshape(x.shape)
    return R["input"]


if __name__ == "__main__":
    agree, not_here = 0, 0
    for file in sorted((Path(__file__).parent / "cases").glob("*.json")):
        for case in json.loads(file.read_text(encoding="utf-8"))["cases"]:
            expected = array(case["relevance"]["input"])
            try:
                found = explain(case)
            except NotHereError:
                not_here += 1
                continue
            if np.allclose(found, expected, rtol=0, atol=1e-12 * abs(expected).max()):
                agree += 1
            else:
                print(f"wrong: {case['id']}: {case['catches']}")
    print(f"{agree} cases agree; {not_here} have layers or rules that this script does not have")
