"""LRP on explicit matrices of z_ij, in Fractions: the formulas of README.md once more, as plain Python.

Nothing here is fast or clever. A value is a shape and a flat list of numbers, the last axis running fastest. A layer that adds
up its inputs is a list of columns, one for each output j: column[i] is the weight w_ij of each input i that j is connected to.
This file imports only the standard library, so that it shares no code with any toolbox.
"""

from fractions import Fraction
from itertools import product
from math import isqrt, prod

REASONS = ("bias", "eps", "zero_denominator", "padding")


# ---- Numbers ---------------------------------------------------------------------------------------------------------


def exact(value):
    """A number of a case file, an int or "p/q", as a Fraction."""
    return Fraction(value)


def flat(nested):
    """Nested lists of numbers as (shape, flat list)."""
    if not isinstance(nested, list):
        return (), [exact(nested)]
    parts = [flat(item) for item in nested]
    assert len({shape for shape, _ in parts}) == 1, "lists of different lengths"
    return (len(parts), *parts[0][0]), [number for _, numbers in parts for number in numbers]


def nested(shape, numbers):
    """The inverse of `flat`."""
    if not shape:
        return numbers[0]
    size = prod(shape[1:])
    return [nested(shape[1:], numbers[k * size : (k + 1) * size]) for k in range(shape[0])]


def position(at, shape):
    """The place of an element in the flat list."""
    found = 0
    for k, n in zip(at, shape, strict=True):
        found = found * n + k
    return found


def everywhere(shape):
    return product(*map(range, shape))


def root(v):
    """√v of a Fraction that is a square."""
    p, q = isqrt(v.numerator), isqrt(v.denominator)
    assert Fraction(p * p, q * q) == v, f"{v} is no square"
    return Fraction(p, q)


def pos(v):
    return max(v, Fraction(0))


def neg(v):
    return min(v, Fraction(0))


# ---- Windows ---------------------------------------------------------------------------------------------------------


def windows(n, kernel, stride, before, after, dilation=1, ceil_mode=False):
    """Along one axis of n places: for each window, where it begins and the (tap, place) pairs that lie on the map."""
    span = dilation * (kernel - 1) + 1
    found, begin = [], -before
    while begin + span <= n + after or (ceil_mode and begin + span < n + after + stride and begin < n):
        taps = [(tap, begin + tap * dilation) for tap in range(kernel)]
        found.append((begin, [(tap, place) for tap, place in taps if 0 <= place < n]))
        begin += stride
    return found


def windows_of(node, size):
    """The windows along each axis of a map."""
    a = range(len(size))
    kernel = node["kernel"] if "kernel" in node else flat(node["w"])[0][: len(size)]
    dilation, ceil_mode = node.get("dilation", [1] * len(size)), node.get("ceil_mode", False)
    return [windows(size[k], kernel[k], node["stride"][k], *node["padding"][k], dilation[k], ceil_mode) for k in a]


def adaptive(n, m):
    """Window k of m sees the places ⌊k n / m⌋ to ⌈(k + 1) n / m⌉ − 1."""
    return [(k * n // m, [(0, place) for place in range(k * n // m, -(-(k + 1) * n // m))]) for k in range(m)]


# ---- Layers as columns -----------------------------------------------------------------------------------------------


def dense(node, shape):
    (_, outputs), w = flat(node["w"])
    return [{i: w[i * outputs + j] for i in range(shape[0])} for j in range(outputs)], (outputs,)


def conv(node, shape):
    """w [*kernel][in / groups][out]."""
    *size, channels = shape
    w_shape, w = flat(node["w"])
    outputs, groups = w_shape[-1], node["groups"]
    inside = channels // groups
    axes = windows_of(node, size)
    columns = []
    for seen in product(*(taps for taps in ([w[1] for w in axis] for axis in axes))):
        for o in range(outputs):
            group, column = o // (outputs // groups), {}
            for pairs in product(*seen):
                tap, place = [t for t, _ in pairs], [p for _, p in pairs]
                for c in range(inside):
                    i = position((*place, group * inside + c), shape)
                    column[i] = w[position((*tap, c, o), w_shape)]
            columns.append(column)
    return columns, (*map(len, axes), outputs)


def conv_transpose(node, shape):
    """y[r] = Σ_t x[(r + before − d t) / s] w[t] along each axis, for w [*kernel][in][out / groups]."""
    *size, channels = shape
    w_shape, w = flat(node["w"])
    groups, kernel = node["groups"], w_shape[: len(size)]
    outputs, inside = w_shape[-1] * groups, channels // groups
    out_size, reach = [], []
    for n, k, s, d, (before, after), extra in zip(
        size, kernel, node["stride"], node["dilation"], node["padding"], node["output_padding"], strict=True
    ):
        rows = (n - 1) * s + d * (k - 1) + 1 - before - after + extra
        out_size.append(rows)
        reach.append([[(t, (r + before - d * t) // s) for t in range(k) if (r + before - d * t) % s == 0] for r in range(rows)])
    columns = []
    for at in everywhere((*out_size, outputs)):
        group, o = divmod(at[-1], w_shape[-1])
        column = {}
        for pairs in product(*(reach[k][r] for k, r in enumerate(at[:-1]))):
            tap, place = [t for t, _ in pairs], [p for _, p in pairs]
            if all(0 <= p < n for p, n in zip(place, size, strict=True)):
                for c in range(group * inside, (group + 1) * inside):
                    column[position((*place, c), shape)] = w[position((*tap, c, o), w_shape)]
        columns.append(column)
    return columns, (*out_size, outputs)


def pooled(shape, axes, weight):
    """Each channel by itself; weight(window) is the weight of all that a window sees."""
    channels, columns = shape[-1], []
    for window in product(*axes):
        for c in range(channels):
            places = product(*([place for _, place in taps] for _, taps in window))
            columns.append({position((*place, c), shape): weight(window) for place in places})
    return columns, (*map(len, axes), channels)


def sum_pool(node, shape):
    return pooled(shape, windows_of(node, shape[:-1]), lambda window: Fraction(1))


def avg_pool(node, shape):
    def weight(window):
        if not node["count_include_pad"]:
            return Fraction(1, prod(len(taps) for _, taps in window))
        count = 1  # the window, cut at the edge of the padding
        for (begin, _), k, n, (_, after) in zip(window, node["kernel"], shape, node["padding"], strict=False):
            count *= min(begin + k, n + after) - begin
        return Fraction(1, count)

    return pooled(shape, windows_of(node, shape[:-1]), weight)


def adaptive_avg_pool(node, shape):
    axes = [adaptive(n, m) for n, m in zip(shape, node["size"], strict=False)]
    return pooled(shape, axes, lambda window: Fraction(1, prod(len(taps) for _, taps in window)))


def max_pool(node, shape):
    if "size" in node:
        return pooled(shape, [adaptive(n, m) for n, m in zip(shape, node["size"], strict=False)], lambda window: Fraction(1))
    return sum_pool(node, shape)


def scale(node, shape):
    _, w = flat(node["w"])
    return [{i: w[i % len(w)]} for i in range(prod(shape))], shape


def batch_norm(node, shape):
    w, _ = as_scale(node)
    return [{i: w[i % len(w)]} for i in range(prod(shape))], shape


def as_scale(node):
    """The factor and the summand of each channel: γ / √(v + eps) and β − m γ / √(v + eps)."""
    mean, variance, gamma, beta = (flat(node[name])[1] for name in ("mean", "variance", "gamma", "beta"))
    w = [g / root(v + exact(node["eps"])) for g, v in zip(gamma, variance, strict=True)]
    return w, [b - m * f for b, m, f in zip(beta, mean, w, strict=True)]


def sum_(node, shape):
    """The inputs side by side, as one list."""
    n = prod(shape)
    return [{k * n + j: Fraction(1) for k in range(len(node["reads"]))} for j in range(n)], shape


ADDING = {
    "dense": dense,
    "conv1d": conv,
    "conv2d": conv,
    "conv3d": conv,
    "conv_transpose2d": conv_transpose,
    "scale": scale,
    "batch_norm": batch_norm,
    "sum": sum_,
    "sum_pool2d": sum_pool,
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), avg_pool),
    "adaptive_avg_pool2d": adaptive_avg_pool,
}
MAXIMUM = ("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool2d")


def bias(node, outputs):
    """b_j of each output."""
    b = as_scale(node)[1] if node["layer"] == "batch_norm" else flat(node["b"])[1] if node.get("b") else [Fraction(0)]
    return [b[j % len(b)] for j in range(outputs)]


# ---- Rules -----------------------------------------------------------------------------------------------------------


def share(z, b, R, rule):
    """Equation 1 for one output: what each of its inputs gets of R, and what is lost (bias, eps, zero denominator, padding).

    z: {input: z_ij} of all inputs that the output is connected to.
    """
    nothing = Fraction(0)
    policy, eps = rule.get("bias", "absorb"), exact(rule.get("eps", 0)) + exact(rule.get("stabiliser", 0))
    b = nothing if policy == "ignore" else b
    z_j = sum(z.values(), b)
    sign = 1 if z_j > 0 else -1 if z_j < 0 else rule.get("sign_of_zero", 1)
    d = z_j + eps * sign
    if d == 0 and rule.get("zero_denominator", "lost") != "lost":
        d = exact(rule["zero_denominator"])
    if d == 0:
        return dict.fromkeys(z, nothing), (nothing, nothing, R, nothing) if z else (nothing, nothing, nothing, R)
    given = {i: z_ij / d * R for i, z_ij in z.items()}
    taken, hidden = b / d * R, nothing
    if policy == "distribute" and z:
        given = {i: r + taken / len(z) for i, r in given.items()}
        taken = nothing
    elif policy == "distribute":  # there is no input to distribute it to
        taken, hidden = nothing, taken
    return given, (taken, eps * sign / d * R, nothing, hidden)


def parts(rule, x, column, b):
    """The parts of a rule for one output: (z_ij by input, b_j of this part, the share of R_j)."""
    name = rule["name"]
    z = {i: x[i] * w for i, w in column.items()}
    if name in ("z", "epsilon"):
        return [(z, b, 1)]
    if name in ("alphabeta", "zplus"):
        return alphabeta(rule, x, column, z, b)
    if name == "gamma":
        gamma = exact(rule["gamma"])
        if rule["acts_on"] == "weights":
            return [({i: x[i] * (w + gamma * pos(w)) for i, w in column.items()}, b, 1)]
        z_j = sum(z.values(), 0 if rule["bias"] == "ignore" and rule["sign_of"] == "sum" else b)
        if z_j == 0:
            return []
        part = pos if z_j > 0 else neg
        return [({i: v + gamma * part(v) for i, v in z.items()}, b + gamma * part(b), 1)]
    if name == "flat":
        return [(dict.fromkeys(column, Fraction(1)), Fraction(0), 1)]
    if name == "wsquare":
        return [({i: w * w for i, w in column.items()}, b * b if rule["bias"] == "squared" else 0 * b, 1)]
    if name == "zbox":
        low, high = (flat(rule[bound])[1] for bound in ("low", "high"))
        box = {i: z[i] - low[i % len(low)] * pos(w) - high[i % len(high)] * neg(w) for i, w in column.items()}
        return [(box, pos(b) if rule["bias"] == "positive" else 0 * b, 1)]
    raise ValueError(name)


def alphabeta(rule, x, column, z, b):
    alpha = exact(rule.get("alpha", 1))
    shares = [alpha, 1 - alpha]
    if rule["parts_by"] == "weight":
        ways = [{i: x[i] * pos(w) for i, w in column.items()}, {i: x[i] * neg(w) for i, w in column.items()}]
        biases = [b, b]
    else:
        ways = [{i: pos(v) for i, v in z.items()}, {i: neg(v) for i, v in z.items()}]
        biases = [b, b] if rule["bias"] == "both" else [pos(b), neg(b)]
    if rule.get("empty_part", "lost") == "other_part":
        kept = [0, 0] if rule["bias"] == "ignore" else biases
        empty = [sum(way.values()) + b == 0 for way, b in zip(ways, kept, strict=True)]
        if empty[0] != empty[1]:
            shares = [0, 1] if empty[0] else [1, 0]
    return [part for part in zip(ways, biases, shares, strict=True) if part[2] != 0]


def redistribute(rule, x, columns, b, R):
    """The relevance of all inputs of a layer that adds up, and what was lost for each reason."""
    R_in, lost = [Fraction(0)] * len(x), dict.fromkeys(REASONS, Fraction(0))
    for column, b_j, R_j in zip(columns, b, R, strict=True):
        if "count" in rule:  # ♭ as some count: a number of inputs that may not be there, or fewer than there are
            for i in column:
                R_in[i] += R_j / rule["count"]
            continue
        found = parts(rule, x, column, b_j)
        if not found:
            lost["zero_denominator" if column else "padding"] += R_j
        for z, b_part, fraction in found:
            given, losses = share(z, b_part, fraction * R_j, rule)
            for i, r in given.items():
                R_in[i] += r
            for reason, loss in zip(REASONS, losses, strict=True):
                lost[reason] += loss
    return R_in, lost


def winners(rule, x, columns, R):
    """All of R_j to the largest input of the window; ties share, or the first takes all."""
    R_in = [Fraction(0)] * len(x)
    lost = dict.fromkeys(REASONS, Fraction(0))
    for column, R_j in zip(columns, R, strict=True):
        best = max(x[i] for i in column)
        largest = [i for i in column if x[i] == best]
        taking = largest[:1] if rule["ties"] == "first" else largest
        part = R_j / len(taking)
        if rule.get("divided"):  # as a layer with weights 0 and 1, by Equation 1 with a stabiliser
            part *= best / (best + exact(rule["divided"]) * (1 if best >= 0 else -1))
        for i in taking:
            R_in[i] += part
    return R_in, lost


# ---- Local response normalisation ------------------------------------------------------------------------------------


def neighbours(node, shape, j):
    """The channels around j at its place."""
    c, half = j % shape[-1], node["size"] // 2
    return [j - c + k for k in range(max(0, c - half), min(shape[-1], c + half + 1))]


def lrn(node, shape, x):
    """For each j: a = α / n, k, β, s_j, and its neighbours."""
    a, k = exact(node["alpha"]) / node["size"], exact(node["k"])
    return [(a, k, node["beta"], k + a * sum(x[i] ** 2 for i in near), near) for near in map_neighbours(node, shape, len(x))]


def map_neighbours(node, shape, n):
    return [neighbours(node, shape, j) for j in range(n)]


def taylor(node, rule, shape, x, R):
    R_in, lost = [Fraction(0)] * len(x), dict.fromkeys(REASONS, Fraction(0))
    for j, (a, k, beta, s, near) in enumerate(lrn(node, shape, x)):
        z = {i: -2 * a * beta * x[j] * x[i] ** 2 * s ** (-beta - 1) for i in near if i != j}
        z[j] = x[j] * (k + a * x[j] ** 2) ** -beta
        given, losses = share(z, Fraction(0), R[j], rule)
        for i, r in given.items():
            R_in[i] += r
        for reason, loss in zip(REASONS, losses, strict=True):
            lost[reason] += loss
    return R_in, lost


# ---- Nets ------------------------------------------------------------------------------------------------------------


def forward(node, shapes, xs):
    """y of a node, given the shapes and numbers of the values that it reads."""
    kind, shape, x = node["layer"], shapes[0], xs[0]
    if kind in ADDING:
        columns, y_shape = ADDING[kind](node, shape)
        x = [number for part in xs for number in part]
        b = bias(node, len(columns))
        return y_shape, [sum((x[i] * w for i, w in column.items()), b_j) for column, b_j in zip(columns, b, strict=True)]
    if kind in MAXIMUM:
        columns, y_shape = max_pool(node, shape)
        return y_shape, [max(x[i] for i in column) for column in columns]
    if kind == "relu":
        return shape, [pos(v) for v in x]
    if kind == "leaky_relu":
        return shape, [v if v > 0 else v * exact(node["slope"]) for v in x]
    if kind == "dropout":
        return shape, x
    if kind == "flatten":
        return (prod(shape),), x
    if kind == "lrn":
        return shape, [v * s**-beta for v, (_, _, beta, s, _) in zip(x, lrn(node, shape, x), strict=True)]
    if kind == "concat":
        channels = [s[-1] for s in shapes]
        y = []
        for place in range(prod(shape[:-1])):
            for part, c in zip(xs, channels, strict=True):
                y += part[place * c : (place + 1) * c]
        return (*shape[:-1], sum(channels)), y
    if kind == "multiply":
        return shape, [prod(values) for values in zip(*xs, strict=True)]
    raise ValueError(kind)


def backward(node, shapes, xs, R):
    """The relevance of each value that a node reads, and what was lost."""
    kind, rule, shape, x = node["layer"], node["rule"], shapes[0], xs[0]
    nothing = dict.fromkeys(REASONS, Fraction(0))
    if kind in ADDING or (kind in MAXIMUM and rule["name"] == "flat"):
        if rule["name"] == "pass":
            return [R] * len(xs), nothing
        columns, _ = ADDING.get(kind, max_pool)(node, shape)
        x = [number for part in xs for number in part]
        R_in, lost = redistribute(rule, x, columns, bias(node, len(columns)), R)
        n = len(xs[0])
        return [R_in[k * n : (k + 1) * n] for k in range(len(xs))], lost
    if kind in MAXIMUM:
        R_in, lost = winners(rule, x, max_pool(node, shape)[0], R)
        return [R_in], lost
    if kind == "lrn" and rule["name"] == "taylor":
        R_in, lost = taylor(node, rule, shape, x, R)
        return [R_in], lost
    if kind == "concat":
        channels = [s[-1] for s in shapes]
        found, total = [[] for _ in xs], sum(channels)
        for place in range(prod(shape[:-1])):
            start = place * total
            for part, c in zip(found, channels, strict=True):
                part += R[start : start + c]
                start += c
        return found, nothing
    if kind == "multiply":
        return [R if k == node["signal"] else [Fraction(0)] * len(R) for k in range(len(xs))], nothing
    return [R], nothing


WEIGHTED = ("dense", "conv1d", "conv2d", "conv3d")


def merged(nodes, output):
    """The nodes with every batch normalisation whose rule is "merged" multiplied into the layer with weights beside it.

    That is the layer that it reads or, if this has no weights, the layer that reads it.
    """
    found = list(nodes)
    for norm in [node for node in nodes if node["rule"]["name"] == "merged"]:
        [source] = norm["reads"]
        before = [node for node in found if node["name"] == source and node["layer"] in WEIGHTED]
        after = [node for node in found if norm["name"] in node["reads"]]
        if before:
            found = [behind(node, norm) if node is before[0] else node for node in found]
        else:
            found = [in_front(node, norm) if node is after[0] else node for node in found]
        found = [
            {**node, "reads": [source if name == norm["name"] else name for name in node["reads"]]}
            for node in found
            if node["name"] != norm["name"]
        ]
        output = source if output == norm["name"] else output
    return found, output


def behind(layer, norm):
    """A layer with weights, and a batch normalisation that reads it: w · f and b · f + s."""
    f, s = as_scale(norm)
    shape, w = flat(layer["w"])
    old = flat(layer["b"])[1] if layer["b"] else [Fraction(0)] * len(f)
    weights = nested(shape, [v * f[k % len(f)] for k, v in enumerate(w)])
    return {**layer, "w": weights, "b": [b * factor + shift for b, factor, shift in zip(old, f, s, strict=True)]}


def in_front(layer, norm):
    """A batch normalisation, and a layer with weights that reads it: w_ij f_i and b_j + Σ_i w_ij s_i. No padding, no groups."""
    assert layer.get("groups", 1) == 1, "groups"
    assert not any(map(any, layer.get("padding", []))), "padding"
    f, s = as_scale(norm)
    shape, w = flat(layer["w"])
    outputs = shape[-1]
    new = flat(layer["b"])[1] if layer["b"] else [Fraction(0)] * outputs
    for k, v in enumerate(w):
        new[k % outputs] += v * s[k // outputs % len(s)]
    return {**layer, "w": nested(shape, [v * f[k // outputs % len(f)] for k, v in enumerate(w)]), "b": new}


def run(net, x, start):
    """All values going forward, all relevances going back, and the ledger: what README.md calls the answer of a case.

    x: {input: nested list}. start: nested list, or a function of the output's flat list.
    """
    nodes, output = merged(net["nodes"], net["output"])
    values = {name: flat(numbers) for name, numbers in x.items()}
    for node in nodes:
        read = [values[name] for name in node["reads"]]
        values[node["name"]] = forward(node, [shape for shape, _ in read], [numbers for _, numbers in read])
    y_shape, y = values[output]
    R = {output: start(y) if callable(start) else flat(start)[1]}
    ledger = []
    for node in reversed(nodes):
        read = [values[name] for name in node["reads"]]
        arriving = R[node["name"]]
        given, lost = backward(node, [shape for shape, _ in read], [numbers for _, numbers in read], arriving)
        for name, r in zip(node["reads"], given, strict=True):
            R[name] = [a + b for a, b in zip(R[name], r, strict=True)] if name in R else r
        row = {"layer": node["name"], "arriving": sum(arriving), "passed": sum(map(sum, given)), **lost}
        ledger.append(row)
    return {
        "output": nested(y_shape, y),
        "relevance": {name: nested(values[name][0], numbers) for name, numbers in R.items()},
        "ledger": ledger,
        "values": values,
        "nodes": nodes,
    }
