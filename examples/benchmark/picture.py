"""Show the ratios of a benchmark as tables, also in pages, and those beside the fastest peer of each part as bars."""

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PARTS = {
    "frames": "file to frames",
    "pixels": "to pixel values",
    "cheapest": "60 s file to pixel values, rule cheapest",
    "tower": "vision tower",
    "text": "400 prompts",
    "matrix": "vision tower, share of matrix speed",
    "saliency": "saliency, 400 labels",
    "file": "file to labels",
    "files": "many files to labels",
    "training": "training step",
    "start": "cold start",
    "gpu-tower": "GPU, vision tower",
    "gpu-training": "GPU, training step",
    "gpu-files": "GPU, many files to labels",
}
# peers that do as the code of the papers does
AUTHORS = ("authors' way", "decord", "open_clip")
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


def short_table(rows: Iterable[Row]) -> str:
    """Return the medians in Markdown, a line for each part: those of the authors' way, and the others."""
    lines: dict[str, tuple[list[str], list[str]]] = {}
    for row in rows:
        columns = lines.setdefault(row.part, ([], []))
        columns[not row.peer.startswith(AUTHORS)].append(f"{row.median:.2f}x ({row.peer})")
    head = ["| | authors' way | others |", "|---|---|---|"]
    return "\n".join(
        [*head, *(f"| {part} | " + " | ".join(map(", ".join, both)) + " |" for part, both in lines.items())]
    )


def describe(result: dict) -> str:
    """Return a paragraph on the machine, and a line for each number that is no ratio of times."""
    machine = result["machine"]
    parts = [
        f"{machine['threads']} threads of {machine['processor']}",
        f"instructions: {', '.join(machine['instructions']) or 'none of those for products'}",
        machine["gpu"] or "no GPU",
        f"torch {machine['torch']}",
        f"Python {machine['python']}",
    ]
    variants = {name for row in result["rows"] for name in row.get("backends", {})}
    auto = "" if "auto" in variants else ' `dtype="auto"` is float32 there, so no row says "auto".'
    lines = []
    for row in result["rows"]:
        ratios = {name.partition(",")[0]: value for name, value in row["ratios"].items()}
        for name, value in (
            ("of the speed of its products with weights alone, at {ms} ms", row.get("share_of_matrix_speed")),
            ("of the tower's time, at {ms} ms", row.get("share_of_tower")),
            ("of the whole is decoding alone", ratios.get("decoding alone")),
            ("of the whole is inference alone", ratios.get("inference alone")),
        ):
            if value is not None:
                lines.append(f"- {PARTS[row['part']]}, {row['case']}: {value:.0%} {name.format(ms=row['ms'])}")
    return "\n".join(["; ".join(parts) + "." + auto, *([""] if lines else []), *lines])


def update_page(page: str, result: dict) -> str:
    """Replace what stands between the marks of a page, `<!-- peers: NAME -->` and `<!-- end -->`.

    NAME is table, short (medians alone) or gpu. Sections without measured parts stay as they are.
    """

    def section(match: re.Match[str]) -> str:
        name = match[1]
        own = result | {"rows": [r for r in result["rows"] if r["part"].startswith("gpu") == (name == "gpu")]}
        if not own["rows"]:
            return match[0]
        rows = summarize(own)
        content = short_table(rows) if name == "short" else f"{describe(own)}\n\n{table(rows)}"
        return f"<!-- peers: {name} -->\n\n{content}\n\n<!-- end -->"

    return re.sub(r"<!-- peers: (\w+) -->.*?<!-- end -->", section, page, flags=re.S)


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
