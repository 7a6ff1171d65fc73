"""The two drawings of the page on the architecture. `python docs/figures/draw.py` writes them.

They have a light ground of their own, so that they can be read on dark pages, too.
"""

from html import escape
from pathlib import Path

HERE = Path(__file__).parent
INK, SOFT, LINE = "#1b1c1e", "#50555d", "#7d828a"
PLAIN, CORE, METHOD = "#eef0f3", "#dbe8fb", "#fde9d3"

HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" role="img">
<title>{title}</title>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
<path d="M0 0 8 4 0 8z" fill="{line}"/></marker></defs>
<rect width="{width}" height="{height}" rx="10" fill="#fdfdfc"/>
"""


def box(x, y, width, height, title, lines=(), fill=PLAIN, title_size=17):
    """A box with a title and lines of text below it; | begins a second column."""
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{fill}" stroke="{LINE}"/>']
    parts.append(
        f'<text x="{x + 12}" y="{y + 24}" font-size="{title_size}" font-weight="600" fill="{INK}">{escape(title)}</text>'
    )
    for k, line in enumerate(lines):
        line, _, column = line.partition("|")
        if column:
            parts.append(f'<text x="{x + 190}" y="{y + 46 + 20 * k}" font-size="14.5" fill="{SOFT}">{escape(column)}</text>')
        parts.append(f'<text x="{x + 12}" y="{y + 46 + 20 * k}" font-size="14.5" fill="{SOFT}">{escape(line)}</text>')
    return "\n".join(parts)


def arrow(x1, y1, x2, y2, label="", dx=8, dy=4, dashed=False, anchor="start"):
    """A line with a head at its end, and a label beside its middle."""
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    line = f'<path d="M{x1} {y1} {x2} {y2}" stroke="{LINE}" stroke-width="1.8" fill="none" marker-end="url(#head)"{dash}/>'
    at = f'x="{(x1 + x2) / 2 + dx}" y="{(y1 + y2) / 2 + dy}" text-anchor="{anchor}"'
    return line + (f'\n<text {at} font-size="14" fill="{INK}">{escape(label)}</text>' if label else "")


def write(name, width, height, title, *parts):
    head = HEAD.format(width=width, height=height, title=escape(title), line=LINE)
    (HERE / name).write_text(head + "\n".join(parts) + "\n</svg>\n", encoding="utf-8")


def layers():
    """Each row imports from the rows below it only."""
    outside = [
        ("command line", ["cli, serve"]),
        ("pictures", ["render"]),
        ("experiments", ["experiments, metrics"]),
        ("other methods", ["attribution"]),
        ("models, data", ["io, zoo, importers, …"]),
    ]
    parts = [box(20 + 192 * k, 20, 180, 62, title, lines, title_size=15.5) for k, (title, lines) in enumerate(outside)]
    rows = [
        ("explain", "forward pass, start relevance, way back: an Explanation", CORE),
        ("ledger", "where relevance went, layer by layer", CORE),
        ("composites", "which layer follows which rule", CORE),
        ("modules", "layers and nets: forward, gradient, relprop; how inputs are connected (apply, apply_T)", CORE),
    ]
    y = 114
    for title, line, fill in rows:
        parts += [box(20, y, 948, 40, title, fill=fill)]
        parts += [f'<text x="170" y="{y + 25}" font-size="14.5" fill="{SOFT}">{escape(line)}</text>']
        parts += [arrow(494, y - 30 if y == 114 else y - 14, 494, y - 2)]
        y += 54
    parts += [arrow(244, y - 14, 244, y - 2), arrow(738, y - 14, 738, y - 2)]
    parts += [
        box(
            20,
            y,
            460,
            106,
            "rules, terms",
            [
                "rules.py: Equation 1, read line by line, and eight rules",
                "terms.py: what a formula is written with: x.pos, w.neg, +, ·",
                "propagation.py: the same terms, evaluated fast",
            ],
            METHOD,
        ),
        box(
            508,
            y,
            460,
            106,
            "kernels",
            [
                "convolution and dense products, in three versions with",
                "the same signatures: plain (to read), cpu (tiles and",
                "threads), gpu (CuPy). The arrays decide which one runs",
            ],
        ),
    ]
    y += 120
    parts += [arrow(244, y - 14, 244, y - 2), arrow(738, y - 14, 738, y - 2)]
    parts += [box(20, y, 948, 40, "backend")]
    said = "arrays of NumPy, CuPy, any module of the array API standard; or of Fractions"
    parts += [f'<text x="170" y="{y + 25}" font-size="14.5" fill="{SOFT}">{said}</text>']
    write("layers.svg", 988, y + 60, "The layers of the package; arrows point at what is imported", *parts)


def way():
    """One relevance, on its way down through one layer."""
    parts = [
        box(
            20,
            20,
            300,
            106,
            "1  explain",
            [
                "forward: each layer leaves a trace",
                "start: R = logit of the class",
                "then, from the last layer to the first:",
            ],
            CORE,
        ),
        box(
            380,
            20,
            280,
            106,
            "2  module.relprop",
            ["takes from its trace x (and y),", "from the composite its rule,", "from the layer above R_j"],
            CORE,
        ),
        box(720, 20, 248, 106, "3  rule.parts", ["lists the terms of z_ij,", "for example for z⁺:", "x⁺ w⁺ + x⁻ w⁻"], METHOD),
        box(
            380,
            196,
            588,
            138,
            "4  propagation: Equation 1 for these terms",
            [
                "z_j = Σ_i z_ij + b_j|apply(x, w) + b",
                "s_j = R_j / z_j|divide(R, z), and 0 where z_j = 0",
                "R_i = x_i Σ_j w_ij s_j|x · apply_T(s, w)",
                "z_j is used again where the forward pass knows it already",
            ],
            METHOD,
        ),
        box(
            20,
            196,
            300,
            138,
            "6  ledger",
            ["arriving = passed + bias + ε", "   + zero denominator + padding", "   + rounding", "one line for each layer"],
            CORE,
        ),
        box(380, 404, 588, 84, "5  kernels", ["do the two products, apply and apply_T: plain, on the CPU,", "or on the GPU"]),
        box(
            20, 404, 300, 84, "7  the layer below", ["R_i is its R_j; go on with step 2,", "until the pixels are reached"], CORE
        ),
        arrow(320, 70, 378, 70, "R_j", -12, -10),
        arrow(660, 70, 718, 70, "x, w, b", -24, -10),
        arrow(844, 126, 844, 194, "terms"),
        arrow(520, 334, 520, 402, "x, w, s", 10, 6),
        arrow(800, 404, 800, 336, "z_j, R_i", 10, 6),
        arrow(380, 312, 322, 312, "lost", -6, 18),
        arrow(450, 196, 450, 128, "R_i", 10, 6),
        f'<path d="M380 100 338 100 338 448 322 448" stroke="{LINE}" stroke-width="1.8" fill="none" stroke-dasharray="5 4"',
        ' marker-end="url(#head)"/>',
        f'<text x="344" y="392" font-size="14" fill="{INK}">R_i</text>',
    ]
    write("way.svg", 988, 508, "The way of one relevance through one layer", *(part for part in parts if part))


if __name__ == "__main__":
    layers()
    way()
