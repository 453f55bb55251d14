"""Show the ratios of a benchmark as a table, and as a bar for each peer with its least and its most."""

import statistics
from collections import defaultdict
from pathlib import Path

PARTS = {
    "frames": "file to frames",
    "pixels": "to pixel values",
    "tower": "vision tower",
    "text": "400 prompts",
    "saliency": "saliency, 400 labels",
    "file": "file to labels",
    "files": "many files to labels",
    "training": "training step",
    "start": "cold start",
}
HIDDEN = ("kinoclip", "decoding alone", "inference alone", "import")


def bars(result: dict) -> list[tuple[str, str, list[float]]]:
    """Give (part, peer, ratios of all its cases), in the order of `PARTS`, those of other backends after torch's."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in result["rows"]:
        backends = {"": row, **row.get("backends", {})}
        for backend, numbers in backends.items():
            for peer, value in numbers["ratios"].items():
                if not peer.startswith(HIDDEN):
                    found[row["part"], backend, peer].append(value)
    order = sorted(found, key=lambda key: (list(PARTS).index(key[0]), key[1]))
    return [
        (PARTS[part] + (f", {backend}" if backend else ""), peer, found[part, backend, peer])
        for part, backend, peer in order
    ]


def table(result: dict) -> str:
    """Give the same numbers as a table in Markdown: the median over cases, the least and the most."""
    lines = ["| | beside | cases | kinoclip is faster by | from | to |", "|---|---|---|---|---|---|"]
    for part, peer, values in bars(result):
        numbers = " | ".join(f"{value:.2f}x" for value in (statistics.median(values), min(values), max(values)))
        lines.append(f"| {part} | {peer} | {len(values)} | {numbers} |")
    return "\n".join(lines)


def draw(result: dict, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    rows = bars(result)
    figure, axes = plt.subplots(figsize=(9, 0.34 * len(rows) + 1.1), layout="constrained")
    for number, (_, _, values) in enumerate(reversed(rows)):
        middle = statistics.median(values)
        axes.barh(number, middle - 1, left=1, color="#2f6f9f" if middle >= 1 else "#b5543c", height=0.66)
        axes.plot([min(values), max(values)], [number, number], color="#222222", linewidth=1)
        axes.text(max(middle, *values, 1) * 1.04, number, f"{middle:.2f}x", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [f"{part}: {peer}" for part, peer, _ in reversed(rows)], fontsize=9)
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set_xscale("log")
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50) if tick <= 1.3 * max(max(v) for _, _, v in rows)]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.45, 1.8 * max(max(values) for _, _, values in rows))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"How many times longer each takes than kinoclip ({result['machine']['processor']})", fontsize=10)
    figure.savefig(path, dpi=110)
