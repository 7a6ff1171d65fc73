"""How a case is made: rules and nodes as JSON, small numbers, the answer by formulas.py, and what other conventions say."""

import json
from fractions import Fraction
from math import prod

import formulas

F = Fraction


def text(v):
    """A number of a case file: an int, or "p/q" in lowest terms."""
    v = F(v)
    return v.numerator if v.denominator == 1 else f"{v.numerator}/{v.denominator}"


# ---- Rules, with all their conventions -------------------------------------------------------------------------------


def z(bias="absorb"):
    return {"name": "z", "bias": bias, "zero_denominator": "lost"}


def epsilon(eps="1/4", bias="absorb"):
    return {"name": "epsilon", "eps": eps, "sign_of_zero": 1, "bias": bias, "zero_denominator": "lost"}


def alphabeta(alpha=2, bias="absorb", empty_part="lost"):
    beta = text(1 - F(alpha))
    return {"name": "alphabeta", "alpha": alpha, "beta": beta, "parts_by": "product", "bias": bias, "empty_part": empty_part}


def zplus(bias="absorb"):
    return {"name": "zplus", "parts_by": "product", "bias": bias, "zero_denominator": "lost"}


def gamma(value="1/4", bias="absorb"):
    return {
        "name": "gamma",
        "gamma": value,
        "acts_on": "contributions",
        "sign_of": "sum",
        "bias": bias,
        "zero_denominator": "lost",
    }


def flat():
    return {"name": "flat", "counts": "inputs", "bias": "ignore", "zero_denominator": "lost"}


def wsquare():
    return {"name": "wsquare", "bias": "ignore", "zero_denominator": "lost"}


def zbox(low=-4, high=4):
    return {"name": "zbox", "low": low, "high": high, "bias": "ignore", "zero_denominator": "lost"}


def winner(ties="share"):
    return {"name": "winner", "ties": ties}


PASS = {"name": "pass"}
MERGED = {"name": "merged"}
TAYLOR = {"name": "taylor", "zero_denominator": "lost"}

RULES = {
    "z": z(),
    "epsilon": epsilon(),
    "alphabeta": alphabeta(),
    "zplus": zplus(),
    "gamma": gamma(),
    "flat": flat(),
    "wsquare": wsquare(),
    "zbox": zbox(),
}
WITH_BIAS = {"z": z, "epsilon": epsilon, "alphabeta": alphabeta, "zplus": zplus, "gamma": gamma}  # that have a policy for it
IN_PROPORTION = {"z": z(), "epsilon": epsilon(), "flat": flat()}  # for layers whose weights have no signs to tell apart


# ---- Small numbers ---------------------------------------------------------------------------------------------------


class Numbers:
    """Small whole numbers in an order that depends on the seed only: a linear congruential generator."""

    def __init__(self, seed):
        self.state = seed * 2654435761 % 2**32
        for _ in range(3):
            self.next(1)

    def next(self, n):
        self.state = (1664525 * self.state + 1013904223) % 2**32
        return (self.state >> 16) % n

    def list(self, *shape, least=-3, most=3):
        """Nested lists of numbers."""
        if not shape:
            return least + self.next(most - least + 1)
        return [self.list(*shape[1:], least=least, most=most) for _ in range(shape[0])]


# ---- Nodes -----------------------------------------------------------------------------------------------------------


def node(name, layer, reads, rule, **given):
    return {"name": name, "layer": layer, "reads": [reads] if isinstance(reads, str) else reads, **given, "rule": rule}


def dense(w, b=None, rule=None, name="dense", reads="input"):
    return node(name, "dense", reads, rule, w=w, b=b)


def conv(w, b=None, rule=None, name="conv", reads="input", **given):
    """Any number of axes; what is not given is 1, or no padding."""
    axes = depth(w) - 2
    stride, dilation = given.get("stride", [1] * axes), given.get("dilation", [1] * axes)
    padding, groups = given.get("padding", [[0, 0]] * axes), given.get("groups", 1)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return node(name, f"conv{axes}d", reads, rule, w=w, b=b, **options)


def transposed(w, b=None, rule=None, name="conv", reads="input", **given):
    options = {"stride": [1, 1], "padding": [[0, 0], [0, 0]], "output_padding": [0, 0], "dilation": [1, 1], "groups": 1}
    return node(name, "conv_transpose2d", reads, rule, w=w, b=b, **(options | given))


def pool(kind, kernel, rule=None, name="pool", reads="input", stride=None, padding=None, ceil_mode=False, **more):
    axes = len(kernel)
    if kind == "avg_pool":
        more = {"count_include_pad": True} | more
    options = {"stride": stride or kernel, "padding": padding or [[0, 0]] * axes, "ceil_mode": ceil_mode}
    return node(name, f"{kind}{axes}d", reads, rule, kernel=kernel, **options, **more)


def depth(nested):
    return 1 + depth(nested[0]) if isinstance(nested, list) else 0


# ---- Facts about a case, which become its tags -----------------------------------------------------------------------


def facts(answer, x, start):
    """What occurs in a case."""
    found = set()
    numbers = formulas.flat(x)[1]
    found |= {"negative-input"} if any(v < 0 for v in numbers) else set()
    found |= {"zero-input"} if any(v == 0 for v in numbers) else set()
    found |= {"negative-relevance"} if any(v < 0 for v in formulas.flat(start)[1]) else set()
    for row in answer["ledger"]:
        found |= {f"{reason.replace('_', '-')}" for reason in formulas.REASONS if row[reason] != 0}
    for n in answer["nodes"]:
        if any(v != 1 for v in n.get("stride", [])):
            found.add("stride")
        if any(v for pair in n.get("padding", []) for v in pair):
            found.add("padded")
        if any(v != 1 for v in n.get("dilation", [])):
            found.add("dilation")
        if n.get("groups", 1) > 1:
            found.add("groups")
        if n.get("ceil_mode"):
            found.add("ceil-mode")
        if n.get("b"):
            found |= {"bias-positive"} if any(v > 0 for v in formulas.flat(n["b"])[1]) else set()
            found |= {"bias-negative"} if any(v < 0 for v in formulas.flat(n["b"])[1]) else set()
        found |= sums(n, answer["values"])
    return found


def sums(n, values):
    """What occurs among the sums, or maxima, of a node. Refuses what rests on rounding."""
    read = [values[name] for name in n["reads"]]
    shape, x = read[0][0], [v for _, numbers in read for v in numbers]
    found = set()
    if n["layer"] in formulas.MAXIMUM:
        for column in formulas.max_pool(n, shape)[0]:
            largest = [x[i] for i in column if x[i] == max(x[i] for i in column)]
            if len(largest) > 1:
                assert dyadic(largest[0]), f"a tie of {largest[0]} rests on rounding"
                found.add("ties")
    if n["layer"] in formulas.ADDING:
        columns, _ = formulas.ADDING[n["layer"]](n, shape)
        for column, b in zip(columns, formulas.bias(n, len(columns)), strict=True):
            z_ij = [x[i] * w for i, w in column.items()]
            if column and not any(z_ij) and b == 0:
                found.add("dead-output")
            elif column and sum(z_ij, b) == 0:
                assert all(map(dyadic, [*z_ij, b])), f"{n['name']}: a sum of 0 rests on rounding"
                found.add("cancellation")
    return found


def dyadic(v):
    """Whether floats compute with v exactly."""
    return v.denominator & (v.denominator - 1) == 0 and v.denominator <= 2**12


# ---- Other conventions, and known errors -----------------------------------------------------------------------------

TINY = "1/1000000000"


def changed(rule_names=None, **change):
    """A change of the rules that have such a field."""

    def change_of(n, values):
        rule = n["rule"]
        if (rule_names is None or rule["name"] in rule_names) and all(k in rule and rule[k] != v for k, v in change.items()):
            return {**n, "rule": {**rule, **change}}
        return None

    return change_of


def stabilised(eps):
    """ε sign(z_j) in the denominators of every rule that has none of its own."""

    def change_of(n, values):
        if n["rule"]["name"] in ("pass", "winner", "merged") or F(n["rule"].get("eps", 0)) > 0:
            return None
        return {**n, "rule": {**n["rule"], "stabiliser": eps}}

    return change_of


def at_zeros(divisor):
    """Where the denominator is 0, and nowhere else, it becomes a small number."""

    def change_of(n, values):
        if n["rule"]["name"] == "alphabeta" and n["rule"]["empty_part"] != "lost":
            return None
        if n["rule"]["name"] in ("pass", "winner", "merged"):
            return None
        return {**n, "rule": {**n["rule"], "zero_denominator": divisor}}

    return change_of


def flat_count(channels):
    """♭ that counts the taps of the kernel, on the map or not; of one channel, or of all."""

    def change_of(n, values):
        if n["rule"]["name"] != "flat" or not n["layer"].startswith("conv") or "transpose" in n["layer"]:
            return None
        shape, _ = formulas.flat(n["w"])
        return {**n, "rule": {**n["rule"], "count": prod(shape[:-2]) * (shape[-2] if channels else 1)}}

    return change_of


def gamma_of_weights(negative):
    """γ on the weights, whatever the signs of input and output; negative: whether some of the inputs are."""

    def change_of(n, values):
        if n["rule"]["name"] != "gamma" or n["reads"][0] not in values:  # not there if it was merged
            return None
        if any(v < 0 for name in n["reads"] for v in values[name][1]) != negative:
            return None
        return {**n, "rule": {**n["rule"], "acts_on": "weights"}}

    return change_of


def divided_maximum(n, values):
    return {**n, "rule": {**n["rule"], "divided": TINY}} if n["rule"]["name"] == "winner" else None


def norm(name):
    def change_of(n, values):
        if n["layer"] != "batch_norm":
            return None
        return {**n, "rule": z() if name == "z" else PASS}

    return change_of


def lrn_passes(n, values):
    return {**n, "rule": PASS} if n["layer"] == "lrn" else None


def lrn_by_taylor(n, values):
    return {**n, "rule": TAYLOR} if n["layer"] == "lrn" else None


def copied_sum(n, values):
    return {**n, "rule": PASS} if n["layer"] == "sum" else None


OTHERS = {  # name: what changes in each node. README.md says what each means, and who does so
    "bias=ignore": changed(bias="ignore"),
    "bias=ignore in z⁺": changed(["zplus"], bias="ignore"),
    "ties=first": changed(ties="first"),
    "ties=share": changed(ties="share"),
    "sign_of_zero=-1": changed(sign_of_zero=-1),
    "empty_part=other_part": changed(empty_part="other_part"),
    "empty_part=lost": changed(empty_part="lost"),
    "stabiliser=1e-9": stabilised(TINY),
    "stabiliser=1e-12": stabilised("1/1000000000000"),
    "stabiliser=1e-16": stabilised("1/10000000000000000"),
    "zero_denominator=1e-7": at_zeros("1/10000000"),
    "bias=squared": changed(["wsquare"], bias="squared"),
    "bias=positive": changed(["zbox"], bias="positive"),
    "counts=places": flat_count(channels=False),
    "counts=kernel": flat_count(channels=True),
    "sign_of=output": changed(["gamma"], sign_of="output"),
    "acts_on=weights": gamma_of_weights(negative=False),
    "maximum=divided": divided_maximum,
    "batch_norm=z": norm("z"),
    "batch_norm=pass": norm("pass"),
    "lrn=pass": lrn_passes,
    "lrn=taylor": lrn_by_taylor,
}
ERRORS = {  # these contradict the formula of the rule
    "error: b_j in both parts": changed(["alphabeta"], bias="both"),
    "error: sign of the weight": changed(["alphabeta", "zplus"], parts_by="weight"),
    "error: γ of weights, for negative inputs": gamma_of_weights(negative=True),
    "error: each summand gets all": copied_sum,
}
TOGETHER = {  # two at once
    "batch_norm=z": ["stabiliser=1e-9"],
    "error: sign of the weight": ["stabiliser=1e-9", "batch_norm=z"],
    "error: γ of weights, for negative inputs": ["stabiliser=1e-9"],
    "error: b_j in both parts": ["zero_denominator=1e-7"],
}


def others(net, x, start, answer):
    """The relevance of the input by other conventions and by known errors, where it differs from the answer."""
    found = []
    seen = [formulas.flat(answer["relevance"]["input"])[1]]
    largest = max(map(abs, seen[0]))

    def add(name, nodes):
        R = formulas.run({**net, "nodes": nodes}, {"input": x}, start)["relevance"]["input"]
        numbers = formulas.flat(R)[1]
        if all(any(abs(a - b) > F(1, 10**6) * largest for a, b in zip(numbers, old, strict=True)) for old in seen):
            found.append({"convention": name, "relevance": R})
            seen.append(numbers)

    for name, change in (OTHERS | ERRORS).items():
        changes = [change(n, answer["values"]) for n in net["nodes"]]
        if any(changes):
            nodes = [new or n for new, n in zip(changes, net["nodes"], strict=True)]
            add(name, nodes)
            for more in TOGETHER.get(name, []):
                add(f"{name}, {more}", [OTHERS[more](n, None) or n for n in nodes])
    return found


# ---- Cases -----------------------------------------------------------------------------------------------------------


class Cases:
    """The cases of one file."""

    def __init__(self):
        self.files = {}

    def add(self, file, id, catches, nodes, x, *, rule, layer, start=None, target=None, tags=(), say=None):
        """A case. `start`: the relevance of the output; or `target`: the output itself at one place, 0 elsewhere."""
        net = {"nodes": nodes, "output": nodes[-1]["name"]}
        if target is not None:
            y = formulas.flat(formulas.run(net, {"input": x}, lambda y: y)["output"])[1]
            start = [v if k == target else F(0) for k, v in enumerate(y)]
        answer = formulas.run(net, {"input": x}, start)
        check(answer)
        found = {
            "id": id,
            "catches": catches[0].upper() + catches[1:],
            "rule": rule,
            "layer": layer,
            "tags": sorted({*tags, *facts(answer, x, start)}),
            "net": net,
            "input": x,
            "start": {
                "is": "given" if target is None else "logit",
                **({} if target is None else {"target": target}),
                "relevance": start,
            },
            "answer": {key: answer[key] for key in ("output", "relevance", "ledger")},
            "others": others(net, x, start, answer),
        }
        if found["others"]:
            found["tags"] = sorted({*found["tags"], "contrast"})
        everything = [case["id"] for cases in self.files.values() for case in cases]
        assert id not in everything, id
        self.files.setdefault(file, []).append(found)


def check(answer):
    """The ledger closes."""
    for row in answer["ledger"]:
        assert row["arriving"] == row["passed"] + sum(row[reason] for reason in formulas.REASONS), row
    assert any(v != 0 for v in formulas.flat(answer["relevance"]["input"])[1]) or any(
        row[reason] != 0 for row in answer["ledger"] for reason in formulas.REASONS
    )


def sought(build, rule, need=(), avoid=("zero-denominator", "dead-output", "cancellation")):
    """The first numbers for which `build(numbers)` → (node, x, start) has the facts that are needed, and not those to avoid."""
    best = None
    for seed in range(1, 400):
        n, x, start = build(Numbers(seed))
        n = {**n, "rule": rule}
        try:
            answer = formulas.run({"nodes": [n], "output": n["name"]}, {"input": x}, start)
            known = facts(answer, x, start)
        except AssertionError:
            continue
        if not any(v != 0 for v in formulas.flat(answer["relevance"]["input"])[1]) and "allow-nothing" not in need:
            continue
        if set(need) - {"allow-nothing"} <= known:
            best = best or (n, x, start)
            if not set(avoid) & known:
                return n, x, start
    assert best, (rule, need)
    return best


def grid(cases, file, layer, feature, catches, build, rules, need=(), avoid=None, tags=()):
    """One case for each rule."""
    for key, rule in rules.items():
        options = {} if avoid is None else {"avoid": avoid}
        n, x, start = sought(build, rule, need, **options)
        cases.add(
            file,
            f"{layer}/{key}/{feature}",
            f"{SAID[rule['name']]}: {catches}.",
            [n],
            x,
            start=start,
            rule=rule["name"],
            layer=n["layer"],
            tags=tags,
        )


SAID = {
    "z": "LRP_z",
    "epsilon": "LRP_ε",
    "alphabeta": "LRP_αβ",
    "zplus": "LRP_z⁺",
    "gamma": "LRP_γ",
    "flat": "LRP_♭",
    "wsquare": "LRP_w²",
    "zbox": "LRP_zᴮ",
    "winner": "The winner takes all",
}


def mapped(value, f):
    if isinstance(value, dict):
        return {key: mapped(v, f) for key, v in value.items()}
    if isinstance(value, list):
        return [mapped(v, f) for v in value]
    return f(value) if isinstance(value, (int, Fraction)) and not isinstance(value, bool) else value


def written(case):
    """The case as text: a line for each of its parts."""

    def line(value):
        return json.dumps(mapped(value, text), ensure_ascii=False, separators=(",", ":"))

    nodes = ",\n    ".join(line(n) for n in case["net"]["nodes"])
    answer = case["answer"]
    as_floats = mapped(answer, float)
    contrasts = ",\n    ".join(
        line({"convention": o["convention"], "relevance": o["relevance"]})[:-1]
        + f',"float64":{json.dumps(mapped(o["relevance"], float), separators=(",", ":"))}}}'
        for o in case["others"]
    )
    lines = [
        f'"id": {line(case["id"])}',
        f'"catches": {line(case["catches"])}',
        f'"rule": {line(case["rule"])}, "layer": {line(case["layer"])}',
        f'"tags": {line(case["tags"])}',
        f'"net": {{"output": {line(case["net"]["output"])}, "nodes": [\n    {nodes}]}}',
        f'"input": {{"input": {line(case["input"])}}}',
        f'"start": {line(case["start"])}',
        *(f'"{key}": {line(answer[key])}' for key in ("output", "relevance", "ledger")),
        f'"float64": {json.dumps(as_floats, separators=(",", ":"))}',
        f'"others": [{chr(10) + "    " if contrasts else ""}{contrasts}]',
    ]
    return "  {" + ",\n   ".join(lines) + "}"
