"""Show the ratios of a benchmark as a table, and those beside the fastest peer of each part as bars."""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

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


class Row(NamedTuple):
    """How many times longer a peer takes: the median over cases, the least and the most."""

    part: str
    peer: str
    cases: int
    median: float
    least: float
    most: float


def summarize(result: dict) -> list[Row]:
    """Summarize the cases of each part and peer, in the order of `PARTS`, those of other backends after torch's."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in result["rows"]:
        backends = {"": row, **row.get("backends", {})}
        for backend, numbers in backends.items():
            for peer, value in numbers["ratios"].items():
                if not peer.startswith(HIDDEN):
                    found[row["part"], backend, peer].append(value)
    order = sorted(found, key=lambda key: (list(PARTS).index(key[0]), key[1]))
    return [
        Row(
            PARTS[part] + (f", {backend}" if backend else ""),
            peer,
            len(values),
            statistics.median(values),
            min(values),
            max(values),
        )
        for (part, backend, peer), values in ((key, found[key]) for key in order)
    ]


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = ["| | beside | cases | kinoclip is faster by | from | to |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {part} | {peer} | {cases} | " + " | ".join(f"{n:.2f}x" for n in numbers) + " |"
        for part, peer, cases, *numbers in rows
    ]
    return "\n".join(lines)


def fastest_peers(rows: Iterable[Row]) -> list[Row]:
    """Select the peer with the smallest median of each part, with kinoclip on torch."""
    chosen: dict[str, Row] = {}
    for row in rows:
        if row.part in PARTS.values() and (row.part not in chosen or row.median < chosen[row.part].median):
            chosen[row.part] = row
    return list(chosen.values())


def draw(rows: Iterable[Row], processor: str, path: Path) -> None:
    """Draw a bar for the fastest peer of each part: the median, and a line from the least to the most."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "kinoclip"  # the same file for the same numbers
    from matplotlib import pyplot as plt

    rows = fastest_peers(rows)[::-1]
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(rows) + 1.5), layout="constrained")
    for number, row in enumerate(rows):
        axes.barh(number, row.median - 1, left=1, color="#2f6f9f" if row.median >= 1 else "#b5543c", height=0.6)
        axes.errorbar(
            row.median,
            number,
            xerr=[[row.median - row.least], [row.most - row.median]],
            color="#222222",
            linewidth=1,
            capsize=3 if row.cases > 1 else 0,
        )
        text = f"{row.median:.2f}x" + (f"  ({row.least:.2f} to {row.most:.2f})" if row.cases > 1 else "")
        axes.text(1.02, number, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [f"{row.part}: {row.peer}" for row in rows], fontsize=9)
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set_xscale("log")
    most = max(row.most for row in rows)
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50) if tick <= 1.3 * most]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.45, 1.2 * most)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"How many times longer the fastest alternative takes than kinoclip ({processor})", fontsize=10)
    axes.set_xlabel(
        "bar and number: median over the cases; line: from the least to the most; no line: one case", fontsize=8
    )
    figure.savefig(path, dpi=110, metadata={"Date": None})
