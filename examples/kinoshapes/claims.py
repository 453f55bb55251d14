"""Decide the papers' claims on KinoShapes: python examples/kinoshapes/claims.py DIR, after `kinoclip reproduce benchmark --output DIR`.

Writes DIR/claims.md.
"""

import json
import sys
from pathlib import Path

from kinoclip.kinoshapes.benchmark import action_classes

GROUPS = ("all", "appearance", "motion", "order", "needle", "unseen")
# claim, row, the row that it is compared with, group of classes; "equal" claims that nothing is lost over all classes
CLAIMS = [
    ("BIKE: weighting frames by words beats their mean", "bike-saliency", "bike-mean", "all"),
    ("BIKE: saliency adds to the transformer", "bike", "bike-transformer", "all"),
    ("BIKE: the transformer adds to saliency", "bike", "bike-saliency", "all"),
    ("BIKE: weighting frames finds needles that the mean misses", "bike-saliency", "bike-mean", "needle"),
    ("A temporal head distinguishes motions that the mean cannot", "bike-transformer", "bike-mean", "motion"),
    ("BIKE: attributes without training add to the video branch", "bike-attributes-plain", "bike", "all"),
    ("BIKE: trained attributes add to the video branch", "bike-attributes", "bike", "all"),
    ("SLLM: every 2nd frame restored is as good as all frames", "sllm-r2", "text4vis", "equal"),
    ("SLLM: every 4th frame restored is as good as all frames", "sllm-r4", "text4vis", "equal"),
    ("SLLM: restoring beats leaving out, r = 2", "sllm-r2", "sllm-r2-unrestored", "all"),
    ("SLLM: restoring beats leaving out, r = 4", "sllm-r4", "sllm-r4-unrestored", "all"),
    ("SLLM: supervision of the restoration helps", "sllm-r2", "sllm-r2-unsupervised", "all"),
    ("SLLM: FFRes restores better than interpolation", "sllm-r2", "sllm-r2-linear", "all"),
    ("SLLM: KL is a better loss of restoration than cosines", "sllm-r2", "sllm-r2-cosine", "all"),
    ("SLLM: restoring at the time of each frame helps", "sllm-r2-timed", "sllm-r2", "all"),
    ("MGSampler: sampling by motion beats equal distances, 4 frames each", "sampled-motion", "sampled-uniform", "all"),
    ("Sizes of packets sample as well as differences of pixels", "sampled-packets", "sampled-motion", "equal"),
    ("Motion vectors sample as well as differences of pixels", "sampled-vectors", "sampled-motion", "equal"),
    ("ALT: aligning with a corpus beats learned queries", "alt-r0", "alt-learned", "all"),
    ("ALT as printed distinguishes motions that the mean cannot", "alt-r0", "bike-mean", "motion"),
    ("ALT with positions distinguishes motions that the mean cannot", "alt-positions", "bike-mean", "motion"),
    ("ALT: merging a few tokens costs nothing", "alt-r2", "alt-r0", "equal"),
    ("ALT: merging many tokens costs nothing", "alt-r8", "alt-r0", "equal"),
    ("ALT: a corpus of all categories beats objects alone", "alt-r0", "alt-objects", "all"),
    ("ALT: a corpus of all categories beats motions alone", "alt-r0", "alt-motions", "all"),
    ("DSTPR: Chinese names as a second supervision help", "dstpr", "dstpr-english", "all"),
    ("DSTPR: Chinese names help more than a second English name", "dstpr", "dstpr-paraphrase", "all"),
    ("DSTPR: re-encoding the prompts helps", "dstpr-english", "dstpr-plain", "all"),
    ("DSTPR: temporal prompts distinguish motions that a mean cannot", "dstpr-english", "bike-mean", "motion"),
]


def groups(row: dict) -> dict[str, tuple[float, int]]:
    """Accuracy and number of videos of each group of classes, over all runs of a row."""
    kinds = {known.label: known.group for known in action_classes()}
    found: dict[str, list[tuple[float, int]]] = {}
    for run in row["runs"]:
        for one in run["per_class"]:
            for group in ("all", kinds.get(one["label"])):
                found.setdefault(group, []).append((one.get("accuracy", 0.0), one["videos"]))
        if "unseen_top1" in run["metrics"]:
            found.setdefault("unseen", []).append((run["metrics"]["unseen_top1"], 200))
    totals = {group: sum(n for _, n in pairs) for group, pairs in found.items()}
    return {g: (sum(share * n for share, n in pairs) / totals[g], totals[g]) for g, pairs in found.items()}


def reach(one: tuple[float, int], other: tuple[float, int]) -> float:
    """Half of the 95 % interval of the difference of two accuracies, as of different clips."""
    return 1.96 * sum(share * (1 - share) / count for share, count in (one, other)) ** 0.5


def verdict(gain: float, half: float, equal: bool) -> str:
    if equal:
        return "does not hold" if gain < -half else "no clear loss"
    return "holds" if gain > half else "does not hold" if gain < -half else "no clear difference"


def render(rows: list[dict]) -> str:
    found = {row["recipe"].partition("/")[2]: groups(row) for row in rows if "top1" in row["measured"]}
    heads = ["recipe", "what", *GROUPS, "trained parameters", "MMAC"]
    lines = ["# KinoShapes: all methods on one benchmark", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        name, cost = row["recipe"].partition("/")[2], row["measured"]
        if name in found:
            cells = [f"{found[name][group][0]:.1%}" if group in found[name] else "" for group in GROUPS]
            costs = [f"{1e3 * cost['trainable_millions']:,.0f} k", f"{1e3 * cost['gmac']:.0f}"]
            lines.append(f"| {' | '.join([name, row['title'], *cells, *costs])} |")
    lines += ["", "## The papers' claims", "", "| claim | rows | points | here |", "|---|---|---|---|"]
    for claim, one, other, how in CLAIMS:
        group = "all" if how == "equal" else how
        if not all(group in found.get(name, {}) for name in (one, other)):
            continue
        mine, base = found[one][group], found[other][group]
        gain, half = mine[0] - base[0], reach(mine, base)
        where = "" if group == "all" else f", {group}"
        lines.append(
            f"| {claim} | {one}, {other}{where} | {100 * gain:+.1f} ± {100 * half:.1f} | {verdict(gain, half, how == 'equal')} |"
        )
    cosines = [
        f"{row['recipe'].partition('/')[2]} {row['measured']['restored_cosine']:.3f}"
        for row in rows
        if "restored_cosine" in row["measured"]
    ]
    if cosines:
        lines += ["", f"Cosine of restored and real features (SLLM Table 7): {', '.join(cosines)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    (folder / "claims.md").write_text(render(results), encoding="utf-8")
