"""Which cases there are. Each function adds those of one kind of layer, or of nets."""

import formulas
from making import (
    IN_PROPORTION,
    MERGED,
    PASS,
    RULES,
    TAYLOR,
    WITH_BIAS,
    Numbers,
    alphabeta,
    conv,
    dense,
    epsilon,
    flat,
    gamma,
    grid,
    node,
    pool,
    sought,
    transposed,
    winner,
    wsquare,
    z,
    zbox,
    zplus,
)

ANY = ()  # nothing to avoid
WEIGHT_RULES = {key: RULES[key] for key in ("flat", "wsquare", "zbox")}  # that have no policy for the bias
UP = {"least": 0}  # inputs as after a ReLU


# ---- Dense layers ----------------------------------------------------------------------------------------------------


def dense_layers(cases):
    def layer(inputs, outputs, b=None, x=None, R=None):
        """Numbers → a dense layer, its input and the relevance of its output. b: (least, most) of the bias."""

        def build(n):
            bias = None if b is None else n.list(outputs, least=b[0], most=b[1])
            node = dense(n.list(inputs, outputs), bias)
            return node, n.list(inputs, **({"least": 1} if x is None else x)), n.list(outputs, **(R or {"least": 1, "most": 6}))

        return build

    def add(feature, catches, build, rules=RULES, **more):
        grid(cases, "dense", "dense", feature, catches, build, rules, **more)

    add("plain", "a wrong formula, where nothing else can go wrong", layer(3, 2))
    add("one-input", "a part that divides by the number of inputs where there is one", layer(1, 2), avoid=ANY)
    add("wide", "weights that are read by columns instead of by rows", layer(2, 4))
    add(
        "negative-inputs",
        "the sign of the weight, or of the input, taken for the sign of x_i w_ij",
        layer(4, 2, x={}),
        need=["negative-input"],
    )
    add(
        "zero-inputs",
        "an input of 0 that gets relevance in proportion to its weight, or none where the rule does not ask for x",
        layer(4, 2, x={"least": 0}),
        need=["zero-input"],
    )
    add(
        "negative-relevance",
        "|R_j|, or max(R_j, 0), in place of R_j",
        layer(3, 2, R={"least": -5, "most": -1}),
        need=["negative-relevance"],
    )
    add("zero-relevance", "an output without relevance that takes part", layer(3, 3, R={"least": 0, "most": 1}))
    add("bias-positive", "a bias that is left out, or is added to both parts", layer(3, 2, b=(1, 3)), need=["bias-positive"])
    add(
        "bias-negative",
        "a negative bias that is clipped, or joins the positive part",
        layer(3, 2, b=(-3, -1)),
        need=["bias-negative"],
    )
    add(
        "bias-mixed",
        "a bias that is taken for another output's",
        layer(4, 3, b=(-2, 2), x={}),
        need=["bias-positive", "bias-negative", "negative-input"],
    )
    for policy, says in (
        ("ignore", "a bias that is in the denominator, though it is to be ignored"),
        ("distribute", "the share of the bias: it goes to all inputs in equal parts, whatever they contribute"),
    ):
        add(
            f"bias-{policy}",
            says,
            layer(3, 2, b=(-3, 3), x={}),
            {k: f(bias=policy) for k, f in WITH_BIAS.items()},
            need=["bias-positive", "bias-negative", "negative-input"],
        )
        add(
            f"bias-{policy}-zero-inputs",
            f"{says}; also to an input that is 0",
            layer(3, 2, b=(1, 3), x={"least": 0, "most": 2}),
            {k: f(bias=policy) for k, f in WITH_BIAS.items()},
            need=["zero-input"],
            avoid=ANY,
        )

    # dead outputs: nothing comes in
    dead = lambda n: (dense([[1, 0], [2, 0], [-1, 0]]), n.list(3, least=1), [4, 3])
    add("dead-output", "an output whose weights are all 0: NaN, or relevance that comes from nowhere", dead, avoid=ANY)
    silent = lambda n: (dense(n.list(3, 2, least=1)), [0, 0, 0], [4, 3])
    add(
        "silent-inputs",
        "inputs that are all 0: a rule in proportion to x_i has nothing to divide by",
        silent,
        {k: RULES[k] for k in RULES if k != "zbox"},
        need=["allow-nothing"],
        avoid=ANY,
    )
    only_bias = lambda n: (dense([[0, 1], [0, 2]], [2, -1]), n.list(2, least=1), [6, 4])
    add("only-bias", "an output that is its bias only: no input has a part in it", only_bias, avoid=ANY)
    only_bias_distributed = {k: f(bias="distribute") for k, f in WITH_BIAS.items()}
    add(
        "only-bias-distribute",
        "an output that is its bias only: its inputs get equal parts of all that it has",
        only_bias,
        only_bias_distributed,
        avoid=ANY,
    )

    # z_j = 0, since summands cancel
    cancel = lambda n: (dense([[1, 2], [2, 1], [-3, 1]]), [1, 1, 1], [6, 8])
    add("cancellation", "z_j = 1 + 2 − 3 = 0: there is nothing to divide by, though the summands are not 0", cancel, avoid=ANY)
    with_bias = lambda n: (dense([[1, 2], [1, 1]], [-2, 1]), [1, 1], [6, 8])
    add(
        "cancellation-with-bias",
        "the bias cancels the inputs, so that z_j = 0",
        with_bias,
        {k: RULES[k] for k in WITH_BIAS},
        avoid=ANY,
    )
    add(
        "cancellation-without-bias",
        "the inputs cancel, and the bias alone makes z_j",
        lambda n: (dense([[1, 2], [-1, 1]], [2, 1]), [1, 1], [6, 8]),
        {k: RULES[k] for k in WITH_BIAS},
        avoid=ANY,
    )
    add(
        "cancellation-bias-ignored",
        "a sum that is 0 only once the bias is ignored",
        lambda n: (dense([[1, 2], [-1, 1]], [2, 1]), [1, 1], [6, 8]),
        {k: f(bias="ignore") for k, f in WITH_BIAS.items()},
        avoid=ANY,
    )

    # ε
    for eps in (0, 1, "1/10", "5/2"):
        name = str(eps).replace("/", "_over_")
        add(
            f"eps-{name}",
            f"ε = {eps} with outputs of both signs: ε is added to |z_j|, not to z_j",
            layer(3, 3, b=(-2, 2)),
            {"epsilon": epsilon(eps)},
            need=["bias-positive"],
        )
        add(
            f"eps-{name}-cancellation",
            f"ε = {eps} where z_j = 0: sign(0) is +1" if eps else "ε = 0 where z_j = 0: as LRP_z, nothing is passed on",
            cancel,
            {"epsilon": epsilon(eps)},
            avoid=ANY,
        )
    add(
        "eps-larger-than-z", "ε larger than every |z_j|: it takes most of the relevance", layer(3, 2), {"epsilon": epsilon(100)}
    )
    add("eps-dead-output", "z_j = 0 because nothing comes in: all inputs get 0 / ε", dead, {"epsilon": epsilon(1)}, avoid=ANY)
    for policy in ("ignore", "distribute"):
        add(
            f"eps-bias-{policy}",
            f"ε and bias “{policy}” together: the sign is that of the sum which is divided by",
            layer(3, 3, b=(-3, 3)),
            {"epsilon": epsilon(1, policy)},
            need=["bias-positive", "bias-negative"],
        )

    # α and β
    for alpha in (0, 1, "3/2", 3):
        name = str(alpha).replace("/", "_over_")
        add(
            f"alpha-{name}",
            f"α = {alpha}: β is 1 − α, and it multiplies the negative part",
            layer(4, 2, b=(-2, 2), x={}),
            {"alphabeta": alphabeta(alpha)},
            need=["bias-positive", "bias-negative", "negative-input"],
        )
    positive = lambda n: (dense(n.list(3, 2, least=1)), n.list(3, least=1), [4, 3])
    negative = lambda n: (dense(n.list(3, 2, least=-3, most=-1)), n.list(3, least=1), [4, 3])
    for which, build in (("negative", positive), ("positive", negative)):
        for empty in ("lost", "other_part"):
            says = "its share is lost" if empty == "lost" else "the other part gets all"
            for alpha in (2, 1, 0):
                add(
                    f"empty-{which}-part-{empty}-alpha-{alpha}",
                    f"no x_i w_ij is {which}: {says} (α = {alpha})",
                    build,
                    {"alphabeta": alphabeta(alpha, empty_part=empty)},
                    need=["allow-nothing"],
                    avoid=ANY,
                )
    for empty in ("lost", "other_part"):
        add(
            f"empty-parts-bias-{empty}",
            "a part that consists of its bias only is not empty",
            lambda n: (dense([[1, -1], [2, -2]], [-1, 1]), [1, 2], [6, 4]),
            {"alphabeta": alphabeta(2, empty_part=empty)},
            avoid=ANY,
        )
        add(
            f"empty-parts-bias-ignored-{empty}",
            "a part that consists of its bias only is empty where the bias is ignored",
            lambda n: (dense([[1, -1], [2, -2]], [-1, 1]), [1, 2], [6, 4]),
            {"alphabeta": alphabeta(2, "ignore", empty)},
            avoid=ANY,
        )
        add(
            f"both-parts-empty-{empty}",
            "an output with neither part, beside one with both",
            lambda n: (dense([[1, 0], [-2, 0]]), [1, 2], [6, 4]),
            {"alphabeta": alphabeta(2, empty_part=empty)},
            avoid=ANY,
        )

    # γ
    for value in (0, 1, 10):
        add(
            f"gamma-{value}",
            f"γ = {value} with outputs of both signs: where z_j < 0 it favours the negative part",
            layer(4, 3, b=(-2, 2), x={}),
            {"gamma": gamma(value)},
            need=["bias-positive", "bias-negative", "negative-input"],
        )
    add(
        "gamma-negative-outputs",
        "z_j < 0 for every output",
        lambda n: (dense(n.list(3, 2, least=-3, most=1)), n.list(3, least=1), [4, 3]),
        {"gamma": gamma()},
    )
    add(
        "gamma-sign-by-the-bias",
        "the bias decides the sign of z_j, and with it which part is favoured",
        lambda n: (dense([[1, -1], [-2, 2]], [3, -3]), [1, 1], [4, 6]),
        {"gamma": gamma("1/2"), "gamma-ignore": gamma("1/2", "ignore")},
    )

    # zᴮ
    for name, low, high, says in (
        ("per-input", [-4, 0, -3], [3, 5, 4], "bounds of an input taken for another's"),
        ("at-the-bounds", 1, 3, "inputs that lie on their bounds"),
        ("zero-to-one", 0, 3, "a lower bound of 0"),
        ("fractions", "-1/2", "7/2", "bounds that are no whole numbers"),
    ):
        x = [1, 3, 2]
        add(
            f"box-{name}",
            says,
            lambda n, x=x: (dense(n.list(3, 2), n.list(2)), x, [4, 3]),
            {"zbox": zbox(low, high)},
            avoid=ANY,
        )
    add(
        "box-negative",
        "negative inputs, and a bias that the rule leaves out",
        layer(3, 2, b=(1, 3), x={}),
        {"zbox": zbox(-3, 3)},
        need=["negative-input"],
    )


# ---- Convolutions ----------------------------------------------------------------------------------------------------


def out_shape(n, shape):
    return formulas.ADDING[n["layer"]](n, shape)[1] if n["layer"] in formulas.ADDING else formulas.max_pool(n, shape)[1]


def maps(make, size, channels, x=None, R=None):
    """numbers → a layer on a map, its input, and the relevance of its output. make(numbers): the layer."""

    def build(n):
        layer = make(n)
        shape = (*size, channels)
        y = out_shape(layer, shape)
        return layer, n.list(*shape, **({"least": 1} if x is None else x)), n.list(*y, **(R or {"least": 1, "most": 4}))

    return build


def kernel(size, inside, outputs, b=None, **options):
    def make(n):
        bias = None if b is None else n.list(outputs, least=b[0], most=b[1])
        return conv(n.list(*size, inside, outputs), bias, **options)

    return make


def convolutions(cases):
    def add(feature, catches, build, rules=RULES, **more):
        grid(cases, "conv2d", "conv2d", feature, catches, build, rules, **more)

    add(
        "plain", "a kernel that is turned around, or axes of the kernel that are swapped", maps(kernel((2, 2), 1, 1), (3, 3), 1)
    )
    add("channels", "channels of input and output that are mixed up", maps(kernel((2, 2), 2, 2), (2, 3), 2))
    add("one-by-one", "a 1 × 1 kernel: a dense layer at every place", maps(kernel((1, 1), 3, 2), (2, 2), 3))
    add("whole-map", "a kernel as large as the map: a dense layer", maps(kernel((2, 3), 2, 2), (2, 3), 2))
    add("not-square", "height and width of kernel and map that are swapped", maps(kernel((1, 3), 1, 2), (2, 4), 1))
    add("stride", "a stride that is ignored, or taken for the other axis", maps(kernel((2, 2), 1, 1, stride=[2, 1]), (4, 3), 1))
    add(
        "unseen-places",
        "a stride that leaves out places: no window sees them, so that they get 0",
        maps(kernel((2, 2), 1, 1, stride=[3, 3]), (4, 4), 1),
        need=["stride"],
    )
    add(
        "padding",
        "places of the padding that get relevance, or are counted as inputs",
        maps(kernel((2, 2), 1, 1, padding=[[1, 1], [1, 1]]), (2, 2), 1),
    )
    add(
        "asymmetric-padding",
        "padding that is put on the other side",
        maps(kernel((2, 2), 1, 2, padding=[[0, 1], [1, 0]]), (2, 2), 1),
    )
    add(
        "dilation",
        "dilation that is ignored, or taken for the other axis",
        maps(kernel((2, 2), 1, 1, dilation=[2, 1]), (4, 3), 1),
    )
    add(
        "groups",
        "channels of another group that take part, or are counted as inputs",
        maps(kernel((2, 2), 2, 2, groups=2), (2, 3), 4),
    )
    add(
        "depthwise",
        "a depthwise convolution with two outputs for each channel, in their order",
        maps(kernel((2, 2), 1, 4, groups=2), (2, 3), 2),
    )
    add(
        "negative-inputs",
        "the sign of the weight taken for that of x_i w_ij, with overlapping windows",
        maps(kernel((2, 2), 2, 1), (3, 2), 2, x={}),
        need=["negative-input"],
    )
    add(
        "negative-relevance",
        "max(R_j, 0) in place of R_j",
        maps(kernel((2, 2), 1, 2), (2, 3), 1, R={"least": -3}),
        need=["negative-relevance"],
    )
    add(
        "bias",
        "a bias that is added once for each tap, or not at all at the border",
        maps(kernel((2, 2), 1, 2, b=(-3, 3), padding=[[1, 0], [1, 0]]), (2, 2), 1, x={}),
        need=["bias-positive", "bias-negative", "negative-input"],
    )
    add(
        "bias-groups",
        "with groups, the biases of the first group taken for those of all",
        maps(kernel((2, 2), 1, 4, b=(-3, 3), groups=2), (2, 3), 2, x={}),
        need=["bias-positive", "bias-negative", "negative-input"],
    )
    for policy, says in (
        ("ignore", "a bias that is to be ignored"),
        ("distribute", "the share of a bias goes in equal parts to the inputs of the window that exist, of its group"),
    ):
        add(
            f"bias-{policy}",
            f"{says}, with padding and groups",
            maps(kernel((2, 2), 1, 2, b=(-3, 3), padding=[[0, 1], [1, 0]], groups=2), (2, 2), 2, x={}),
            {k: f(bias=policy) for k, f in WITH_BIAS.items()},
            need=["bias-positive", "bias-negative", "negative-input"],
        )
    everything = kernel((2, 3), 2, 2, b=(-2, 2), stride=[2, 1], padding=[[1, 0], [2, 1]], dilation=[1, 2], groups=1)
    add(
        "everything",
        "stride, asymmetric padding, dilation, bias and negative inputs together",
        maps(everything, (3, 3), 2, x={}),
        need=["bias-positive", "negative-input"],
    )
    lonely = lambda b: maps(kernel((1, 1), 1, 1, b=b, padding=[[1, 1], [0, 0]]), (1, 2), 1)
    add(
        "only-padding-with-bias",
        "windows that see only padding: the bias is all they have",
        lonely((1, 3)),
        {k: RULES[k] for k in WITH_BIAS},
        avoid=ANY,
    )
    add(
        "only-padding",
        "windows that see only padding have no input to give to: the ledger counts it as padding",
        lonely(None),
        {k: RULES[k] for k in ("z", "alphabeta", "zplus", "gamma", "flat", "wsquare", "zbox")},
        avoid=ANY,
    )
    add(
        "only-padding-distribute",
        "the bias of a window that sees only padding has no input to go to",
        lonely((1, 3)),
        {"z": z("distribute"), "zplus": zplus("distribute")},
        avoid=ANY,
    )
    dead = lambda n: (conv([[[[1, 0]], [[-2, 0]]]]), [[[1], [2], [3]]], [[[4, 3], [1, 2]]])
    add("dead-output", "a channel whose weights are all 0", dead, avoid=ANY)
    cancel = lambda n: (conv([[[[1]], [[-1]]]]), [[[2], [2], [1]]], [[[4], [3]]])
    add("cancellation", "one window whose summands cancel, beside one whose do not", cancel, avoid=ANY)
    empty = lambda n: (conv([[[[1, -1]], [[2, -2]]]]), [[[1], [2], [3]]], [[[4, 3], [1, 2]]])
    for part in ("lost", "other_part"):
        add(
            f"empty-parts-{part}",
            "windows in which one of the two parts is empty",
            empty,
            {"alphabeta": alphabeta(2, empty_part=part)},
            avoid=ANY,
        )
    per_channel = maps(kernel((2, 2), 2, 1, padding=[[1, 0], [0, 1]]), (2, 2), 2, x={"least": 0, "most": 3})
    add(
        "box-per-channel",
        "one bound for each channel, and padding that has no bounds",
        per_channel,
        {"zbox": zbox([-1, 0], [3, 5])},
        avoid=ANY,
    )

    def add1(feature, catches, build, rules=RULES, **more):
        grid(cases, "conv_other_axes", "conv1d", feature, catches, build, rules, **more)

    add1("plain", "a kernel over one axis", maps(kernel((3,), 1, 2), (5,), 1))
    add1(
        "everything",
        "stride, asymmetric padding, dilation, bias and negative inputs along one axis",
        maps(kernel((2,), 2, 2, b=(-2, 2), stride=[2], padding=[[1, 0]], dilation=[2], groups=1), (5,), 2, x={}),
        need=["bias-positive", "negative-input"],
    )
    add1("groups", "groups along one axis", maps(kernel((2,), 1, 2, groups=2), (3,), 2), avoid=ANY)

    def add3(feature, catches, build, rules=RULES, **more):
        grid(cases, "conv_other_axes", "conv3d", feature, catches, build, rules, **more)

    add3("plain", "a kernel over three axes, of three lengths", maps(kernel((1, 2, 2), 1, 1), (2, 2, 3), 1))
    add3(
        "everything",
        "stride, padding, bias and negative inputs along three axes",
        maps(kernel((2, 2, 1), 1, 1, b=(-2, 2), stride=[1, 2, 1], padding=[[1, 0], [0, 1], [0, 0]]), (2, 3, 2), 1, x={}),
        need=["negative-input"],
    )


def transposed_convolutions(cases):
    def make(size, n_in, per_out, b=None, **options):
        def layer(n):
            groups = options.get("groups", 1)
            bias = None if b is None else n.list(per_out * groups, least=b[0], most=b[1])
            return transposed(n.list(*size, n_in, per_out), bias, **options)

        return layer

    def add(feature, catches, build, rules=RULES, **more):
        grid(cases, "conv_transpose", "conv_transpose2d", feature, catches, build, rules, **more)

    add(
        "plain",
        "a place spreads over a window of the output, and windows overlap",
        maps(make((2, 2), 1, 1), (2, 2), 1),
        avoid=ANY,
    )
    add(
        "stride",
        "a stride of the kernel's size: windows do not overlap, and every output has the inputs of one place",
        maps(make((2, 2), 2, 1, stride=[2, 2]), (2, 1), 2),
        avoid=ANY,
    )
    add(
        "padding",
        "padding cuts places off the output",
        maps(make((2, 3), 1, 2, padding=[[1, 0], [0, 1]]), (2, 2), 1),
        avoid=ANY,
    )
    add(
        "groups",
        "groups, with a bias for each output",
        maps(make((1, 2), 2, 1, b=(-2, 2), groups=2), (1, 2), 2, x={}),
        need=["bias-positive"],
        avoid=ANY,
    )
    add(
        "gaps-with-bias",
        "outputs that no input reaches, between the places of a large stride: they have their bias only",
        maps(make((1, 1), 2, 1, b=(1, 3), stride=[1, 2], output_padding=[0, 1]), (1, 2), 2),
        {k: RULES[k] for k in WITH_BIAS},
        avoid=ANY,
    )
    add(
        "gaps",
        "outputs that no input reaches: the ledger counts it as padding",
        maps(make((1, 1), 2, 1, stride=[1, 2]), (1, 2), 2),
        {k: RULES[k] for k in ("z", "flat", "wsquare")},
        avoid=ANY,
    )


# ---- Pooling ---------------------------------------------------------------------------------------------------------


def pooling(cases):
    for kind in ("avg_pool", "sum_pool"):

        def add(feature, catches, build, rules=IN_PROPORTION, kind=kind, **more):
            grid(cases, "pooling", f"{kind}2d", feature, catches, build, rules, **more)

        def make(size, kind=kind, **options):
            return lambda n: pool(kind, size, **options)

        add("plain", "in proportion to the inputs, or evenly under ♭", maps(make([2, 2]), (2, 4), 1))
        add("channels", "channels that are mixed: each is pooled by itself", maps(make([2, 1]), (2, 2), 2))
        add(
            "overlap",
            "windows that overlap: a place gets the sum of what they give",
            maps(make([2, 2], stride=[1, 1]), (3, 3), 1),
        )
        add("unseen-places", "places that no window sees get 0", maps(make([2, 2]), (3, 3), 1))
        add("padding", "padding that gets relevance", maps(make([2, 2], stride=[2, 2], padding=[[1, 1], [1, 1]]), (2, 2), 1))
        add(
            "asymmetric-padding",
            "padding on the other side",
            maps(make([2, 3], stride=[1, 2], padding=[[0, 1], [1, 2]]), (2, 3), 1),
        )
        add("ceil-mode", "a last window that reaches beyond the edge", maps(make([2, 2], ceil_mode=True), (3, 3), 1))
        add(
            "ceil-mode-larger",
            "a window that is larger than the map, by less than a stride",
            maps(make([2, 3], ceil_mode=True), (2, 2), 1),
        )
        add(
            "ceil-mode-padding",
            "with padding, a last window that would begin beyond the map is left out",
            maps(make([2, 2], padding=[[1, 1], [0, 0]], ceil_mode=True), (3, 2), 1),
        )
        add(
            "negative-inputs",
            "inputs of both signs: shares may be negative, or above 1",
            maps(make([2, 2]), (2, 4), 1, x={}),
            need=["negative-input"],
        )
        add(
            "zeros",
            "a window of zeros: it has nothing in proportion to which to divide",
            lambda n, make=make: (make([1, 2])(n), [[[0], [0], [1], [3]]], [[[5], [4]]]),
            avoid=ANY,
        )
        add(
            "cancellation",
            "a window whose inputs cancel, 2 − 2 = 0",
            lambda n, make=make: (make([1, 2])(n), [[[2], [-2], [1], [3]]], [[[5], [4]]]),
            avoid=ANY,
        )
        add("whole-map", "one window for the whole map", maps(make([2, 3]), (2, 3), 2))
    for feature, catches, options in (
        ("padding-not-counted", "an average over the places that exist, not over the padding", {"padding": [[1, 1], [1, 1]]}),
        ("ceil-mode-not-counted", "what a last window sees beyond the edge is not counted", {"ceil_mode": True}),
    ):
        build = maps(lambda n, options=options: pool("avg_pool", [2, 2], count_include_pad=False, **options), (3, 3), 1)
        grid(cases, "pooling", "avg_pool2d", feature, catches, build, IN_PROPORTION)
    for shape, size in (((5,), [2]), ((2, 2, 3), [1, 2, 2])):
        axes = len(shape)
        build = maps(lambda n, size=size: pool("avg_pool", size, stride=[1] * len(size)), shape, 1)
        grid(
            cases,
            "pooling",
            f"avg_pool{axes}d",
            "plain",
            f"pooling over {axes} {'axis' if axes == 1 else 'axes'}",
            build,
            IN_PROPORTION,
        )
    for shape, size in (((3, 4), [2, 2]), ((2, 5), [2, 3]), ((3, 3), [1, 1])):
        build = maps(lambda n, size=size: node("pool", "adaptive_avg_pool2d", "input", None, size=size), shape, 1)
        feature = f"{'-by-'.join(map(str, size))}-of-{'-by-'.join(map(str, shape))}"
        grid(
            cases,
            "pooling",
            "adaptive_avg_pool2d",
            feature,
            "windows from ⌊k n / m⌋ to ⌈(k + 1) n / m⌉, which overlap where m does not divide n",
            build,
            IN_PROPORTION,
        )


def max_pooling(cases):
    rules = {"share": winner(), "first": winner("first"), "flat": flat()}

    def add(feature, catches, build, need=(), layer="max_pool2d"):
        for key, rule in rules.items():
            n, x, start = sought(build, rule, need, avoid=() if "ties" in need else ("ties",))
            said = {
                "share": "The largest takes all, ties share",
                "first": "The first of the largest takes all",
                "flat": "LRP_♭, whatever is the largest",
            }[key]
            cases.add(
                "max_pooling",
                f"{layer}/{key}/{feature}",
                f"{said}: {catches}.",
                [n],
                x,
                start=start,
                rule=rule["name"],
                layer=layer,
            )

    def make(size, **options):
        return lambda n: pool("max_pool", size, **options)

    few = {"least": 0, "most": 2}
    add(
        "plain",
        "relevance in proportion to the inputs, or to all of them",
        maps(make([2, 2]), (2, 4), 1, x={}),
        ["negative-input"],
    )
    add("ties", "two largest inputs in a window", maps(make([2, 2]), (2, 4), 1, x=few), ["ties"])
    add("ties-of-all", "a window of equal values", lambda n: (make([2, 2])(n), [[[3], [3]], [[3], [3]]], [[[8]]]), ["ties"])
    add(
        "ties-at-zero",
        "a window of zeros, as after a ReLU: the largest is 0, and it still takes all",
        lambda n: (make([1, 2])(n), [[[0], [0], [0], [1]]], [[[6], [4]]]),
        ["ties"],
    )
    add(
        "overlap",
        "windows that overlap: one place may win in several",
        maps(make([2, 2], stride=[1, 1]), (3, 3), 1, x={"least": 0, "most": 6}),
    )
    add("overlap-ties", "ties in windows that overlap", maps(make([2, 2], stride=[1, 1]), (3, 3), 1, x=few), ["ties"])
    add(
        "padding-negative",
        "padding that wins against negative inputs",
        maps(make([2, 2], padding=[[1, 1], [1, 1]]), (2, 2), 1, x={"least": -4, "most": -1}),
        ["negative-input"],
    )
    add(
        "channels",
        "each channel has its own winner",
        maps(make([2, 2]), (2, 2), 3, x={"least": -4, "most": 4}),
        ["negative-input"],
    )
    add(
        "ceil-mode",
        "a last window that reaches beyond the edge",
        maps(make([2, 2], ceil_mode=True), (3, 3), 1, x={"least": 0, "most": 9}),
    )
    larger = maps(make([3, 2], ceil_mode=True), (2, 3), 1, x={"least": 0, "most": 9})
    add("ceil-mode-larger", "a window that is larger than the map, by less than a stride", larger)
    add(
        "all-negative",
        "the largest is negative: its relevance keeps its sign",
        lambda n: (make([1, 3])(n), [[[-3], [-1], [-2]]], [[[5]]]),
        ["negative-input"],
    )
    add("plain", "maxima along one axis", maps(make([2], stride=[1]), (4,), 1, x={"least": -4, "most": 4}), layer="max_pool1d")
    add("plain", "maxima over three axes", maps(make([1, 2, 2]), (2, 2, 2), 1, x={"least": -4, "most": 4}), layer="max_pool3d")
    build = maps(
        lambda n: node("pool", "adaptive_max_pool2d", "input", None, size=[2, 2]), (3, 4), 1, x={"least": 0, "most": 9}
    )
    add("plain", "windows that overlap where their number does not divide the size", build, layer="adaptive_max_pool2d")


# ---- Scaling, batch normalisation, local response normalisation ------------------------------------------------------


def norms(cases):
    def scale(b):
        return lambda n: (
            node(
                "scale", "scale", "input", None, w=n.list(2, least=1), b=None if b is None else n.list(2, least=b[0], most=b[1])
            ),
            n.list(2, least=1),
            n.list(2, least=1),
        )

    for feature, b, catches in (
        ("plain", None, "each output has one input, which gets all"),
        ("bias-positive", (1, 3), "the bias takes its part of a factor that is applied by channel"),
        ("bias-negative", (-3, -1), "a negative bias: the input gets more than there is"),
    ):
        grid(cases, "norms", "scale", feature, catches, scale(b), IN_PROPORTION)
    for policy in ("ignore", "distribute"):
        grid(
            cases,
            "norms",
            "scale",
            f"bias-{policy}",
            f"bias “{policy}”: the one input gets all",
            scale((1, 3)),
            {"z": z(policy)},
        )

    norm = {"mean": [1, -1], "variance": [3, 15], "gamma": [3, -2], "beta": [1, 2], "eps": 1}
    rules = {k: r for k, r in RULES.items() if k != "zbox"}
    for key, rule in rules.items():
        name = {"rule": rule["name"], "layer": "batch_norm"}
        nodes = [
            dense([[1, 2], [-1, 1], [2, -1]], [1, -1], rule),
            node("norm", "batch_norm", "dense", MERGED, **norm),
            node("relu", "relu", "norm", PASS),
        ]
        catches = "a batch normalisation is merged into the layer before it, whose weights may change their signs by it."
        cases.add("norms", f"batch_norm/{key}/merged-into-dense", catches, nodes, [1, 2, 3], start=[3, 4], **name)
        n, x, _ = sought(maps(kernel((2, 2), 1, 2, padding=[[0, 1], [1, 0]]), (2, 2), 1, x={}), rule, need=["negative-input"])
        nodes = [n, node("norm", "batch_norm", "conv", MERGED, **norm)]
        start = Numbers(5).list(2, 2, 2, least=1)
        cases.add("norms", f"batch_norm/{key}/merged-into-conv", catches, nodes, x, start=start, **name)
    for key, rule in rules.items():
        name = {"rule": rule["name"], "layer": "batch_norm"}
        nodes = [
            node("relu", "relu", "input", PASS),
            node("norm", "batch_norm", "relu", MERGED, **norm),
            dense([[1, 2], [-1, 1]], [1, -1], rule, reads="norm"),
        ]
        catches = "a batch normalisation that reads no layer with weights is merged into the layer behind it, whose bias takes up its shift."
        cases.add("norms", f"batch_norm/{key}/merged-into-dense-behind", catches, nodes, [3, 1], start=[3, 4], **name)
    nodes = [
        node("norm", "batch_norm", "input", MERGED, **norm),
        conv([[[[1, -1], [2, 1]], [[-1, 2], [1, 1]]]], None, z(), reads="norm"),
    ]
    catches = (
        "a batch normalisation of the input, merged into the convolution behind it: its factor is that of the input channel."
    )
    cases.add(
        "norms",
        "batch_norm/z/merged-into-conv-behind",
        catches,
        nodes,
        [[[1, 2], [3, 1]]],
        start=[[[2, 3]]],
        rule="z",
        layer="batch_norm",
    )
    for key, rule in {"z": z(), "epsilon": epsilon(), "z-ignore": z("ignore")}.items():
        nodes = [
            node("norm", "batch_norm", "input", rule, **norm),
            relu("norm"),
            dense([[1, 1], [-2, 1]], None, z(), reads="relu"),
        ]
        catches = "a batch normalisation with no layer with weights beside it is an affine layer of its own, and its bias takes a part."
        cases.add(
            "norms", f"batch_norm/{key}/alone", catches, nodes, [3, -2], start=[3, 4], rule=rule["name"], layer="batch_norm"
        )
    cases.add(
        "norms",
        "batch_norm/z/input-at-the-mean",
        "an input that is equal to the mean: the factor of the layer is not (y − β) / (x − m), which is 0 / 0 there.",
        [node("norm", "batch_norm", "input", z(), **norm)],
        [1, 3],
        start=[3, 4],
        rule="z",
        layer="batch_norm",
    )
    shapes = {
        "three-channels": [[[1, 2, 3]]],
        "negative": [[[1, -2, 1]], [[2, 3, -1]]],
        "zeros": [[[0, 2, 1]]],
        "one-channel": [[[2]]],
    }
    for feature, x in shapes.items():
        for key, rule, says in (
            ("pass", PASS, "relevance passes local response normalisation as it is"),
            ("taylor", TAYLOR, "the first-order terms of the normalisation are divided by their sum"),
        ):
            if (key, feature) == ("taylor", "zeros"):
                x = [[[1, 2, 0]]]
            lrn = node("lrn", "lrn", "input", rule, size=3, alpha=3, beta=1, k=1)
            start = Numbers(3).list(len(x), 1, len(x[0][0]), least=1)
            cases.add("norms", f"lrn/{key}/{feature}", f"{says}.", [lrn], x, start=start, rule=key, layer="lrn")
    for key, rule in (("pass", PASS), ("taylor", TAYLOR)):
        lrn = node("lrn", "lrn", "input", rule, size=5, alpha="5/2", beta=2, k=2)
        cases.add(
            "norms",
            f"lrn/{key}/beta-2",
            "β, k, α / size: each in its place.",
            [lrn],
            [[[1, 2, 1, 0]]],
            start=[[[1, 2, 3, 4]]],
            rule=key,
            layer="lrn",
        )


# ---- Graphs ----------------------------------------------------------------------------------------------------------


def relu(reads, name="relu"):
    return node(name, "relu", reads, PASS)


def graphs(cases):
    ways = {"z": z(), "epsilon": epsilon(), "flat": flat()}

    def add(id, catches, nodes, x, layer="sum", rule="z", **more):
        cases.add("graphs", id, catches, nodes, x, layer=layer, rule=rule, **more)

    for key, rule in ways.items():
        branch = dense([[1, -1], [2, 1]], None, z(), "branch")
        add(
            f"sum/{key}/residual",
            "A skip connection: both summands get a part in proportion (under ♭: equal parts), and the input the sum of what comes back.",
            [branch, node("sum", "sum", ["branch", "input"], rule)],
            [2, 3],
            rule=key,
            start=[7, 5],
        )
        signs = dense([[1, 0], [0, -2]], None, z(), "branch")
        add(
            f"sum/{key}/opposite-signs",
            "Summands of opposite signs: one gets more than there is, the other less than nothing.",
            [signs, node("sum", "sum", ["branch", "input"], rule)],
            [2, 3],
            rule=key,
            start=[4, 6],
        )
        cancel = dense([[1, 0], [0, -1]], None, z(), "branch")
        add(
            f"sum/{key}/cancellation",
            "Summands that cancel: there is nothing to divide by.",
            [cancel, node("sum", "sum", ["branch", "input"], rule)],
            [2, 3],
            rule=key,
            start=[4, 6],
        )
        three = [dense([[1], [2]], None, z(), "a"), dense([[2], [-1]], None, z(), "b"), dense([[1], [1]], None, z(), "c")]
        add(
            f"sum/{key}/three",
            "Three summands.",
            [*three, node("sum", "sum", ["a", "b", "c"], rule)],
            [2, 1],
            rule=key,
            start=[8],
        )
        add(
            f"sum/{key}/zeros",
            "Summands that are all 0, as after ReLUs.",
            [
                dense([[1, 1]], None, z(), "a"),
                relu("a"),
                dense([[1, 2]], None, z(), "b"),
                relu("b", "relu2"),
                node("sum", "sum", ["relu", "relu2"], rule),
            ],
            [-1],
            rule=key,
            start=[3, 2],
        )
        twice = [dense([[1, 2], [3, 1]], None, z(), "a"), node("sum", "sum", ["a", "a"], rule)]
        add(
            f"sum/{key}/the-same-twice",
            "One value that is both summands: it gets both parts.",
            twice,
            [1, 2],
            rule=key,
            start=[5, 6],
        )
    block = [
        conv([[[[1, 0], [0, 1]], [[1, -1], [1, 1]]]], None, alphabeta(2), "conv1", padding=[[0, 0], [1, 0]]),
        relu("conv1"),
        conv([[[[2, 1], [-1, 1]]]], [1, 0], alphabeta(2), "conv2", "relu"),
        node("sum", "sum", ["conv2", "input"], z()),
        relu("sum", "relu2"),
    ]
    add(
        "sum/z/residual-block",
        "A residual block: convolutions by LRP_αβ, the sum in proportion.",
        block,
        [[[1, 2], [2, 1]]],
        start=[[[3, 1], [2, 4]]],
    )

    for key, rule in {"z": z(), "alphabeta": alphabeta(), "flat": flat(), "epsilon": epsilon()}.items():
        halves = [
            dense([[1, 2], [1, -1]], None, rule, "left"),
            dense([[2], [1]], [1], z(), "right"),
            node("concat", "concat", ["left", "right"], PASS),
            dense([[1, -1], [2, 1], [-1, 2]], None, rule, "out", "concat"),
        ]
        add(
            f"concat/{key}/features",
            "Relevance of a concatenation goes back to the branches in their order.",
            halves,
            [2, 1],
            layer="concat",
            rule=key,
            start=[4, 3],
        )
    channels = [
        conv([[[[1, -1], [2, 1]]]], None, zplus(), "left"),
        conv([[[[1], [1]], [[1], [-1]]]], None, z(), "right", padding=[[0, 0], [1, 0]]),
        node("concat", "concat", ["left", "right", "input"], PASS),
        conv([[[[1], [1], [-1], [2], [1]]]], None, alphabeta(2), "out", "concat"),
    ]
    add(
        "concat/alphabeta/channels",
        "Channels of three branches side by side, one of which is the input itself.",
        channels,
        [[[1, 2], [3, 1]]],
        layer="concat",
        rule="alphabeta",
        start=[[[2], [3]]],
    )

    shared = [
        dense([[1, 2], [2, 1]], None, z(), "first"),
        relu("first"),
        dense([[1], [3]], None, z(), "left", "relu"),
        dense([[2], [-1]], None, z(), "right", "relu"),
    ]
    for key, rule in ways.items():
        add(
            f"shared/{key}/diamond",
            "A value that two layers read gets the sum of what they send back.",
            [*shared, node("sum", "sum", ["left", "right"], rule)],
            [1, 2],
            layer="shared value",
            rule=key,
            start=[6],
        )
    for key, rule in {"alphabeta": alphabeta(), "zplus": zplus(), "gamma": gamma(), "wsquare": wsquare()}.items():
        diamond = [
            dense([[1, 2], [2, -1]], [1, -1], rule, "first"),
            relu("first"),
            dense([[1], [3]], None, rule, "left", "relu"),
            dense([[2], [-1]], None, rule, "right", "relu"),
        ]
        add(
            f"shared/{key}/diamond",
            "A value that two layers read gets the sum of what they send back.",
            [*diamond, node("sum", "sum", ["left", "right"], z())],
            [2, 1],
            layer="shared value",
            rule=key,
            start=[6],
        )
    nested_ = [
        dense([[1, 1], [2, -1]], None, z(), "a"),
        node("s1", "sum", ["a", "input"], z()),
        dense([[1, 2], [1, 1]], None, z(), "b", "s1"),
        node("s2", "sum", ["b", "s1", "input"], z()),
    ]
    add(
        "shared/z/two-skips",
        "Two skip connections from one value, one of them over the other.",
        nested_,
        [1, 2],
        layer="shared value",
        start=[5, 6],
    )
    add(
        "shared/z/unequal-depth",
        "A value that is read at two depths: relevance has to wait for the deeper reader.",
        [
            dense([[1, 1], [2, 1]], None, z(), "a"),
            dense([[1, 2], [1, 1]], None, z(), "b", "a"),
            dense([[2, 1], [1, 1]], None, z(), "c", "b"),
            node("concat", "concat", ["a", "c"], PASS),
            dense([[1], [2], [1], [1]], None, z(), "out", "concat"),
        ],
        [1, 1],
        layer="shared value",
        start=[9],
    )
    for key, rule in {"z": z(), "alphabeta": alphabeta(), "epsilon": epsilon()}.items():
        gate = [
            dense([[1, 2], [2, -1]], None, rule, "signal"),
            dense([[1, 1], [1, 2]], None, rule, "gate"),
            node("product", "multiply", ["signal", "gate"], PASS, signal=0),
        ]
        add(
            f"multiply/{key}/gate",
            "A signal times a gate: the signal takes all, the gate gets 0.",
            gate,
            [2, 1],
            layer="multiply",
            rule=key,
            start=[3, 4],
        )
    leaky = [
        dense([[1, -2], [1, 1]], None, z()),
        node("leaky", "leaky_relu", "dense", PASS, slope="1/4"),
        dense([[1], [2]], None, z(), "out", "leaky"),
    ]
    add(
        "activations/z/leaky-relu",
        "Relevance passes an activation as it is, also where its input is negative.",
        leaky,
        [2, 1],
        layer="activation",
        start=[4],
    )
    add(
        "activations/z/relu-closed",
        "A ReLU that is closed: the relevance of a 0 is 0 by itself, and no mask is needed.",
        [dense([[1, -2], [1, 1]], None, z()), relu("dense"), dense([[1], [2]], None, z(), "out", "relu")],
        [2, 1],
        layer="activation",
        start=[4],
    )
    add(
        "activations/flat/relu-closed",
        "LRP_♭ gives relevance to a closed ReLU, and it passes: relevance is not masked as a gradient is.",
        [dense([[1, -2], [1, 1]], None, z()), relu("dense"), dense([[1], [2]], None, flat(), "out", "relu")],
        [2, 1],
        layer="activation",
        rule="flat",
        start=[4],
    )
    add(
        "activations/z/dropout",
        "Dropout does nothing once training is over.",
        [
            dense([[1, 2], [1, 1]], None, z()),
            node("dropout", "dropout", "dense", PASS),
            dense([[1], [2]], None, z(), "out", "dropout"),
        ],
        [2, 1],
        layer="activation",
        start=[4],
    )


# ---- Nets and composites ---------------------------------------------------------------------------------------------


def composites(cases):
    """A small CNN with a rule for each layer."""

    def cnn(first, second, top, pooled=None, ties="share", kind="max"):
        pooling = (
            pool("max_pool", [1, 2], pooled or winner(ties), reads="relu1")
            if kind == "max"
            else pool("avg_pool", [1, 2], pooled or z(), reads="relu1")
        )
        return [
            conv([[[[1, -1]], [[1, 2]]]], [0, 1], first, "conv1", padding=[[0, 0], [1, 0]]),
            relu("conv1", "relu1"),
            pooling,
            conv([[[[1, 1], [2, -1]]]], [-1, 1], second, "conv2", "pool"),
            relu("conv2", "relu2"),
            node("flatten", "flatten", "relu2", PASS),
            dense([[1, -1], [2, 1], [-1, 2], [1, 1]], [1, -2], top, "fc", "flatten"),
        ]

    x = [[[1], [2], [3], [1]]]
    half = epsilon("1/2")
    table = {
        "cmp-alpha1": (alphabeta(1), alphabeta(1), half, "LRP_CMP:α1: αβ in convolutions, ε in dense layers"),
        "cmp-alpha2": (alphabeta(2), alphabeta(2), half, "LRP_CMP:α2"),
        "cmp-alpha1-flat": (flat(), alphabeta(1), half, "LRP_CMP:α1+♭: ♭ in the first convolution"),
        "cmp-alpha2-flat": (flat(), alphabeta(2), half, "LRP_CMP:α2+♭, the best of the paper's Table I"),
        "epsilon-plus": (zplus(), zplus(), half, "EpsilonPlus: z⁺ in convolutions"),
        "epsilon-plus-ignore": (zplus("ignore"), zplus("ignore"), half, "z⁺ without the bias in convolutions"),
        "epsilon-gamma-box": (zbox(0, 4), gamma(), half, "EpsilonGammaBox: zᴮ, γ, ε"),
        "wsquare-first": (wsquare(), alphabeta(2), half, "w² in the first layer"),
        "deep-taylor": (zbox(0, 4), zplus("ignore"), zplus("ignore"), "Deep Taylor decomposition: zᴮ, then z⁺ without bias"),
        "uniform-z": (z(), z(), z(), "LRP_z in every layer"),
        "uniform-epsilon": (half, half, half, "LRP_ε in every layer"),
        "uniform-gamma": (gamma(), gamma(), gamma(), "LRP_γ in every layer"),
        "uniform-alpha2": (alphabeta(2), alphabeta(2), alphabeta(2), "LRP_αβ (α=2) in every layer"),
        "uniform-distribute": (z("distribute"), z("distribute"), z("distribute"), "LRP_z that distributes every bias"),
        "bias-policies": (z("ignore"), alphabeta(2, "distribute"), epsilon("1/2"), "a bias policy of its own for every layer"),
    }
    for name, (first, second, top, says) in table.items():
        for target in (0, 1):
            cases.add(
                "composites",
                f"composite/{name}/class-{target}",
                f"{says}: the rule of one layer that is taken for another's.",
                cnn(first, second, top),
                x,
                target=target,
                rule="composite",
                layer="net with max-pooling",
            )
    for name in ("cmp-alpha2", "uniform-z", "cmp-alpha2-flat", "epsilon-gamma-box"):
        first, second, top, says = table[name]
        cases.add(
            "composites",
            f"composite/{name}/average-pooling",
            f"{says}, with average pooling in proportion.",
            cnn(first, second, top, kind="avg"),
            x,
            target=0,
            rule="composite",
            layer="net with average pooling",
        )
    cases.add(
        "composites",
        "composite/flat-pooling/max",
        "♭ in convolutions and in max-pooling, as in the paper's Fig. 1(g).",
        cnn(flat(), flat(), half, flat()),
        x,
        target=0,
        rule="composite",
        layer="net with max-pooling",
    )
    cases.add(
        "composites",
        "composite/flat-pooling/average",
        "♭ in convolutions and in average pooling.",
        cnn(flat(), flat(), half, flat(), kind="avg"),
        x,
        target=0,
        rule="composite",
        layer="net with average pooling",
    )
    cases.add(
        "composites",
        "composite/epsilon-pooling/average",
        "ε in average pooling, too.",
        cnn(alphabeta(2), alphabeta(2), half, epsilon("1/4"), kind="avg"),
        x,
        target=0,
        rule="composite",
        layer="net with average pooling",
    )

    two = [dense([[1, -1], [2, 1]], None, z(), "hidden"), relu("hidden"), dense([[1, -2], [1, -1]], None, z(), "fc", "relu")]
    for name, more, catches in (
        ("logit", {"target": 0}, "The start is the output of the class itself."),
        ("negative-logit", {"target": 1}, "A negative output is the start with its sign."),
        ("one", {"start": [1, 0]}, "The start is 1, whatever the output."),
        ("two-classes", {"start": [1, -1]}, "The start is the difference of two classes."),
        ("all-outputs", {"start": [4, -7]}, "Every output starts with its own value."),
        ("nothing-at-target", {"start": [0, 1]}, "The start has 1 at another class than the largest."),
    ):
        cases.add("composites", f"start/z/{name}", catches, two, [1, 2], rule="z", layer="start", **more)

    mlp = lambda r1, r2, r3: [
        dense([[1, 2, -1], [-2, 1, 1]], [1, 0, -1], r1, "fc1"),
        relu("fc1", "relu1"),
        dense([[1, -1], [2, 1], [1, 1]], [0, 1], r2, "fc2", "relu1"),
        relu("fc2", "relu2"),
        dense([[2, 1], [-1, 1]], [1, -1], r3, "fc3", "relu2"),
    ]
    for key, rule in (
        RULES | {"alpha1": alphabeta(1), "epsilon-ignore": epsilon(bias="ignore"), "gamma-distribute": gamma(bias="distribute")}
    ).items():
        rules = (rule, z(), z()) if key == "zbox" else (rule, rule, rule)
        cases.add(
            "composites",
            f"mlp/{key}/uniform",
            "Three dense layers with biases: relevance that is handed from layer to layer.",
            mlp(*rules),
            [2, 1],
            target=0,
            rule=rule["name"],
            layer="net of dense layers",
        )


# ---- Contrasting conventions -----------------------------------------------------------------------------------------


def contrasts(cases):
    """Cases as small as can be in which two conventions part."""

    def add(id, catches, nodes, x, rule, layer, **more):
        cases.add("contrasts", f"contrast/{id}", catches, nodes, x, rule=rule, layer=layer, **more)

    w, x = [[1], [-1]], [2, 1]
    add(
        "bias-both-parts",
        "LRP_αβ with a bias: b⁺ joins the positive part and b⁻ the negative one. Toolboxes that add b to both count it twice.",
        [dense(w, [-3], alphabeta(1))],
        x,
        "alphabeta",
        "dense",
        start=[3],
    )
    add(
        "bias-ignored",
        "LRP_z⁺ with a bias: it keeps its share, or is ignored.",
        [dense([[1], [2]], [1], zplus())],
        x,
        "zplus",
        "dense",
        start=[5],
    )
    add(
        "sign-of-product",
        "LRP_z⁺ with a negative input: the part of x_i w_ij > 0, not of w_ij > 0.",
        [dense([[1], [-1]], None, zplus())],
        [1, -2],
        "zplus",
        "dense",
        start=[3],
    )
    add(
        "sign-of-product-alphabeta",
        "LRP_αβ with negative inputs: the sign of the product decides.",
        [dense([[1], [-1], [2]], None, alphabeta(2))],
        [-1, -2, 1],
        "alphabeta",
        "dense",
        start=[6],
    )
    add(
        "zero-denominator",
        "LRP_z where z_j = 0: nothing is passed on, or it is divided by a small number.",
        [dense([[1, 1], [-1, 1]], None, z())],
        [1, 1],
        "z",
        "dense",
        start=[2, 4],
    )
    add(
        "sign-of-zero",
        "LRP_ε where z_j = 0: sign(0) is +1, or −1.",
        [dense([[1, 1], [-1, 1]], None, epsilon(1))],
        [1, 1],
        "epsilon",
        "dense",
        start=[2, 3],
    )
    add(
        "empty-part-lost",
        "LRP_αβ where nothing is negative: the share β of the empty part is lost, or the other part gets all.",
        [dense([[1], [1]], None, alphabeta(2))],
        [1, 3],
        "alphabeta",
        "dense",
        start=[4],
    )
    add(
        "empty-part-other",
        "The same, with the share given to the other part.",
        [dense([[1], [1]], None, alphabeta(2, empty_part="other_part"))],
        [1, 3],
        "alphabeta",
        "dense",
        start=[4],
    )
    add(
        "gamma-of-weights",
        "LRP_γ with an output below 0: γ favours the part with the sign of z_j, or always positive weights.",
        [dense([[1], [-3]], None, gamma(1))],
        [1, 1],
        "gamma",
        "dense",
        start=[-2],
    )
    add(
        "gamma-bias",
        "LRP_γ with a bias: b + γ b⁺, or b as it is.",
        [dense([[1], [2]], [1], gamma(1))],
        [1, 1],
        "gamma",
        "dense",
        start=[4],
    )
    add(
        "gamma-negative-inputs",
        "LRP_γ with a negative input: γ favours x_i w_ij > 0, not w_ij > 0.",
        [dense([[1], [-1]], None, gamma(1))],
        [3, -1],
        "gamma",
        "dense",
        start=[4],
    )
    add(
        "wsquare-bias",
        "LRP_w²: no bias, or b² in the denominator.",
        [dense([[1], [2]], [2], wsquare())],
        [1, 1],
        "wsquare",
        "dense",
        start=[9],
    )
    add(
        "zbox-bias",
        "LRP_zᴮ: no bias, or b⁺ in the denominator.",
        [dense([[1], [-1]], [2], zbox(0, 2))],
        [1, 1],
        "zbox",
        "dense",
        start=[6],
    )
    add(
        "flat-channels",
        "LRP_♭: inputs of all channels are counted, or the places of the kernel only.",
        [conv([[[[1], [2]], [[1], [-1]]]], None, flat())],
        [[[1, 2], [3, 4]]],
        "flat",
        "conv2d",
        start=[[[8]]],
    )
    add(
        "flat-padding",
        "LRP_♭: padding is not an input, or is counted.",
        [conv([[[[1]], [[1]]]], None, flat(), padding=[[0, 0], [1, 0]])],
        [[[1], [2]]],
        "flat",
        "conv2d",
        start=[[[4], [6]]],
    )
    add(
        "ties-share",
        "Max-pooling: ties share.",
        [pool("max_pool", [1, 2], winner())],
        [[[3], [3]]],
        "winner",
        "max_pool2d",
        start=[[[6]]],
    )
    add(
        "ties-first",
        "Max-pooling: the first of ties takes all.",
        [pool("max_pool", [1, 2], winner("first"))],
        [[[3], [3]]],
        "winner",
        "max_pool2d",
        start=[[[6]]],
    )
    add(
        "maximum-of-zero",
        "Max-pooling where the largest is 0: it takes all, or nothing, since 0 / ε is 0.",
        [pool("max_pool", [1, 2], winner())],
        [[[0], [-1]]],
        "winner",
        "max_pool2d",
        start=[[[6]]],
    )
    add(
        "sum-in-proportion",
        "A sum: its inputs share in proportion, and do not get all of it each.",
        [dense([[1]], None, z(), "branch"), node("sum", "sum", ["branch", "input"], z())],
        [2],
        "z",
        "sum",
        start=[8],
    )
    add(
        "lrn-passes",
        "Local response normalisation: relevance passes, or follows its first-order terms.",
        [node("lrn", "lrn", "input", PASS, size=3, alpha=3, beta=1, k=1)],
        [[[1, 2]]],
        "pass",
        "lrn",
        start=[[[3, 2]]],
    )
    norm = {"mean": [1], "variance": [3], "gamma": [2], "beta": [3], "eps": 1}
    add(
        "batch-norm",
        "A batch normalisation behind a dense layer: merged into it, or a layer of its own, or passed.",
        [dense([[1], [2]], [1], alphabeta(1)), node("norm", "batch_norm", "dense", MERGED, **norm)],
        [1, 2],
        "alphabeta",
        "batch_norm",
        start=[8],
    )


ALL = [dense_layers, convolutions, transposed_convolutions, pooling, max_pooling, norms, graphs, composites, contrasts]
