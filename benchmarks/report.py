"""Tables and charts of what was measured."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

METHODS = {
    "forward": "forward",
    "epsilon": "ε",
    "alpha1beta0": "α1β0",
    "alpha2beta1": "α2β1",
    "cmp_alpha1_flat": "CMP α1+♭",
    "cmp_alpha2_flat": "CMP α2+♭",
}
NAMES = {"ours": "lrp_toolbox", "zennit": "Zennit", "captum": "Captum", "innvestigate": "iNNvestigate", "limit": "limit",
         "ours_gpu": "lrp_toolbox", "zennit_gpu": "Zennit"}  # fmt: skip
COLOURS = {"ours": "#c2302a", "zennit": "#6d8fb5", "captum": "#a9bdd3", "innvestigate": "#8a9a86", "limit": "#444444"}


def label(case: tuple) -> str:
    net, method, batch, targets = case
    more = (f", {batch} images" if batch > 1 else "") + (f", {targets} targets" if targets > 1 else "")
    return f"{ {'vgg16': 'VGG-16', 'caffenet': 'CaffeNet'}.get(net, net) } {METHODS[method]}{more}"


def _cell(kept: dict) -> str:
    if not kept.get("times"):
        return f"– ({kept['refused']})" if "refused" in kept else "–"
    ms = np.array(kept["times"]) * 1000
    middle, least, most = (f"{t:.0f}" if t >= 10 else f"{t:.1f}" for t in (np.median(ms), ms.min(), ms.max()))
    return middle if least == most else f"{middle} [{least}–{most}]"


def _ratio(row: dict, tool: str, our: str = "ours") -> str:
    ours, theirs = row["tools"][our].get("times"), row["tools"].get(tool, {}).get("times")
    return f"**{np.median(ours) / np.median(theirs):.2f}**" if ours and theirs else "–"


def write_table(rows: list[dict], agreed: list[dict], machine: dict, out: Path, name: str) -> str:
    """Markdown, JSON and a chart; returns the Markdown."""
    tools = list(rows[0]["tools"])
    peers = [t for t in ("zennit", "captum", "innvestigate") if t in tools]
    versions: dict[str, str] = {}
    for row in rows:
        for kept in row["tools"].values():
            versions.update(kept.get("versions", {}))
    loads = [load for row in rows for kept in row["tools"].values() for load in kept["load"] if load is not None]
    lines = [
        f"# On {machine['cores']} cores",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {datetime.date.today()}; commit "
        f"{machine['commit']}; {', '.join(f'{k} {v}' for k, v in sorted(versions.items()))}. Random He-normal weights without "
        f"biases, float32. Load of the machine before each measurement (1-minute average; the measurement before it counts): "
        f"median {np.median(loads):.1f}, at most {max(loads):.1f}.",
        "",
        "Milliseconds, median [min–max]; every measurement in a process of its own, tools in turn. The limit is calculated: "
        "the fewest products at the speed of BLAS measured in the same round, and reading the dense weights.",
        "",
        "| | " + " | ".join(NAMES[t] for t in tools) + " |",
        "|---" * (len(tools) + 1) + "|",
        *(f"| {label(tuple(r['case']))} | " + " | ".join(_cell(r["tools"][t]) for t in tools) + " |" for r in rows),
        "",
        "Ratio of medians, lrp_toolbox / other (below 1: faster):",
        "",
        "| | " + " | ".join(NAMES[t] for t in [*peers, *(["limit"] if "limit" in tools else [])]) + " |",
        "|---" * (len(peers) + 1 + ("limit" in tools)) + "|",
        *(
            f"| {label(tuple(r['case']))} | "
            + " | ".join(_ratio(r, t) for t in [*peers, *(["limit"] if "limit" in tools else [])])
            + " |"
            for r in rows
        ),
        "",
        "Peak memory of the process, MiB, interpreter and libraries included:",
        "",
        "| | " + " | ".join(NAMES[t] for t in ["ours", *peers]) + " |",
        "|---" * (len(peers) + 2) + "|",
        *(
            f"| {label(tuple(r['case']))} | "
            + " | ".join(f"{r['tools'][t]['peak_mib']:.0f}" if r["tools"][t].get("peak_mib") else "–" for t in ["ours", *peers])
            + " |"
            for r in rows
        ),
    ]
    if agreed:
        lines += [
            "",
            "Do the relevances agree? The largest difference to ours, as a part of the largest relevance; two targets:",
            "",
            "| | dtype | " + " | ".join(NAMES[t] for t in peers) + " |",
            "|---" * (len(peers) + 2) + "|",
        ]
        for row in agreed:
            cells = [f"{row[t]:.0e}" if isinstance(row.get(t), float) else f"– ({row.get(t)})" for t in peers]
            lines.append(f"| {label((row['net'], row['method'], 1, 1))} | {row['dtype']} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    stored = {"machine": machine, "date": str(datetime.date.today()), "rows": rows, "agreement": agreed}
    (out / f"{name}.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")
    _chart(rows, tools).savefig(out / f"{name}.png", bbox_inches="tight")
    return text


def write_gpu(parts: dict[str, list[dict]], agreed: dict[str, list[dict]], machine: dict, out: Path) -> str:
    """Markdown and JSON of what ran on a card, for each setting of TF32; returns the Markdown."""
    ours, theirs = "ours_gpu", "zennit_gpu"
    versions: dict[str, str] = {}
    for row in (row for rows in parts.values() for row in rows):
        for kept in row["tools"].values():
            versions.update(kept.get("versions", {}))
    lines = [
        f"# On {versions.pop('card', 'no card')}",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {datetime.date.today()}; commit "
        f"{machine['commit']}; {', '.join(f'{k} {v}' for k, v in sorted(versions.items()))}. Random He-normal weights without "
        "biases, float32. Milliseconds, median [min–max], until the card has finished, with input and result on the card; "
        "every measurement in a process of its own. Memory in MiB: what the framework took from the card at most; in brackets, "
        "all that the card had lent.",
    ]
    for name, rows in parts.items():
        lines += [
            "",
            f"## {name}",
            "",
            "| | lrp_toolbox | Zennit | ratio (below 1: faster) | memory, lrp_toolbox | memory, Zennit |",
            "|---|---|---|---|---|---|",
        ]
        for row in rows:
            kept = [row["tools"][tool] for tool in (ours, theirs)]
            cells = [*map(_cell, kept), _ratio(row, theirs, ours), *map(_memory, kept)]
            lines.append(f"| {label(tuple(row['case']))} | {' | '.join(cells)} |")
    if agreed:
        lines += [
            "",
            "Do the relevances agree? The largest difference to lrp_toolbox on the CPU, as a part of the largest relevance; "
            "two targets:",
            "",
            "| | dtype | lrp_toolbox | Zennit |",
            "|---|---|---|---|",
        ]
    for name, row in ((name, row) for name, rows in agreed.items() for row in rows):
        cells = [f"{row[t]:.0e}" if isinstance(row.get(t), float) else f"– ({row.get(t)})" for t in (ours, theirs)]
        lines.append(f"| {label((row['net'], row['method'], 1, 1))} | {row['dtype']}, {name} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    (out / "gpu.md").write_text(text, encoding="utf-8")
    stored = {"machine": machine, "date": str(datetime.date.today()), "parts": parts, "agreement": agreed}
    (out / "gpu.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")
    return text


def _memory(kept: dict) -> str:
    return f"{kept['pool_mib']:.0f} [{kept['card_mib']:.0f}]" if "pool_mib" in kept else "–"


def _chart(rows: list[dict], tools: list[str]) -> Figure:
    """Bars: how many times our time each tool takes; a line where the limit is."""
    bars = [t for t in tools if t != "limit"]
    figure = Figure(figsize=(9, 0.62 * len(rows) + 1), dpi=130)
    ax = figure.subplots()
    height = 0.8 / len(bars)
    for i, row in enumerate(rows):
        ours = np.median(row["tools"]["ours"]["times"])
        for k, tool in enumerate(bars):
            times = row["tools"][tool].get("times")
            y = i + (k - (len(bars) - 1) / 2) * height
            if times:
                t = np.array(times) / ours
                ax.barh(y, np.median(t), height * 0.9, color=COLOURS[tool], label=NAMES[tool] if i == 0 else None)
                ax.plot([t.min(), t.max()], [y, y], color="black", linewidth=0.8)
        limit = row["tools"].get("limit", {}).get("times")
        if limit:
            x = np.median(limit) / ours
            ax.plot([x, x], [i - 0.45, i + 0.45], color=COLOURS["limit"], linewidth=1.5, linestyle=":",
                    label="limit" if i == 0 else None)  # fmt: skip
    ax.set_yticks(range(len(rows)), [label(tuple(r["case"])) for r in rows])
    ax.invert_yaxis()
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set_xlabel("time, as a multiple of ours (black lines: from the fastest to the slowest run)")
    ax.spines[["top", "right"]].set_visible(False)
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    ax.legend(unique.values(), unique.keys(), frameon=False, loc="lower right")
    return figure


def write_growth(series: dict[str, list[dict]], machine: dict, out: Path) -> None:
    """One panel for each thing that grows: ours, and the limit."""
    (out / "growth.json").write_text(json.dumps({"machine": machine, "series": series}, indent=1), encoding="utf-8")
    figure = Figure(figsize=(11, 2.9), dpi=130, layout="constrained")
    for ax, (name, rows) in zip(figure.subplots(1, len(series)), series.items(), strict=True):
        position = {"image size": 0, "blocks": 0, "images": 2, "targets": 3}[name]
        xs = [_number(r["case"][position]) for r in rows]
        for tool, style in (("ours", "o-"), ("limit", ":")):
            ax.plot(xs, [np.median(r["tools"][tool]["times"]) for r in rows], style, color=COLOURS[tool], label=NAMES[tool])
        if name == "image size":
            ax.set(xscale="log", yscale="log")
            ax.minorticks_off()
        else:
            ax.set_ylim(0)
        ax.set_xticks(xs, [str(x) for x in xs], fontsize=7)
        ax.set_xlabel(name)
        ax.spines[["top", "right"]].set_visible(False)
        ax2 = ax.twinx()
        ax2.plot(xs, [r["tools"]["ours"]["peak_mib"] / 1024 for r in rows], "--", color="#999999", linewidth=1)
        ax2.set_ylim(0)
        ax2.tick_params(labelsize=6, colors="#999999")
        ax2.spines[["top"]].set_visible(False)
    figure.axes[0].set_ylabel("seconds (dashed: peak GiB)")
    figure.axes[0].legend(frameon=False)
    figure.suptitle("LRP_CMP:α2+♭ of VGG-16: how cost grows", fontsize=10)
    figure.savefig(out / "growth.png")


def _number(value: int | str) -> int:
    return value if isinstance(value, int) else int(value.rpartition("=")[2])
