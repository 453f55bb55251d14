"""The papers' claims as data, decided by paired tests of two rows over the same videos and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kinoclip.kinoshapes.benchmarks import BENCHMARKS
from kinoclip.training.comparison import RowResult, markdown_table
from kinoclip.training.recipe import build_settings, read_table
from kinoclip.training.settings import Number, Settings

# the row's own test videos, among the names of data sets
TEST = "test"
# of all claims together
_LEVEL, _DRAWS = 0.05, 5000
# rows whose operations differ by at most this share have equal costs
_EQUAL = 0.1


@dataclass(frozen=True)
class Claim(Settings):
    """A claim about two rows: an entry of `[claims]` of a recipe file, below the name of its paper."""

    text: str
    row: str  # name in the file
    over: str  # the row that it is compared with
    on: str = ""  # a further data set ("unseen") or a group of classes ("reversed") instead of all videos
    direction: Literal["greater", "not_less"] = "greater"
    margin: Number = 2  # points: a smaller gain is none, and a smaller loss is allowed by "not_less"
    equal_cost: bool = False  # decided only between rows of equal operations
    paper: str = ""

    def check(self) -> None:
        """Check numbers."""
        if self.margin <= 0:
            raise ValueError(f"margin must be above 0, got {self.margin}.")


@dataclass(frozen=True)
class Verdict:
    """What two rows say about a claim. Differences are in points."""

    claim: Claim
    verdict: Literal["holds", "does not hold", "undecided"]
    effect: float  # mean difference over videos and seeds
    interval: tuple[float, float]  # 95 %, of this claim alone
    p: float  # corrected for the number of claims, also of those that were not measured
    videos: int
    seeds: int
    cost: float  # operations of the row, as a share of those of the other one

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the claim and of the verdict, for JSON."""
        return {**asdict(self.claim), **{name: value for name, value in asdict(self).items() if name != "claim"}}


def load_claims(file: str) -> list[Claim]:
    """Return the claims of a recipe file of this package, such as "benchmark"."""
    where = f"{file}.toml, [claims]"
    tables = read_table(file, "claims").items()
    return [build_settings(where, paper, Claim, {**one, "paper": paper}) for paper, some in tables for one in some]


def decide(claims: Sequence[Claim], rows: Sequence[RowResult], *, seed: int = 0) -> list[Verdict]:
    """Decide the claims whose rows and videos were measured, with Holm's correction for the number of all, measured or not.

    Each video of each seed is answered by both rows, so that their difference is 1, 0 or -1. Videos and seeds are drawn
    independently with replacement (`seed` is that of the draws), so that a gain that is a loss with one of three seeds is not
    decided. Two videos are added on which the rows disagree, one in each direction: without disagreement an interval would have no width.

    A claim holds where the difference is above 0 (above -margin for "not_less"), and does not where it is below the margin
    (below -margin): a gain of less than the margin is none.

    Source: Owen, The pigeonhole bootstrap, 2007; Bonett and Price, Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data, 2012; Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    found = {row.recipe.partition("/")[2]: row for row in rows}
    tested = []
    for claim in claims:
        pair = found.get(claim.row), found.get(claim.over)
        differences = None if None in pair else find_differences(*pair, claim.on)  # type: ignore[arg-type]
        if differences is not None:
            tested.append((claim, differences, *_test(claim, differences, seed)))
    adjusted = _adjust([min(1.0, 2 * min(holds, fails)) for *_, holds, fails in tested], len(claims))
    verdicts = []
    for (claim, differences, interval, holds, fails), p in zip(tested, adjusted, strict=True):
        cost = found[claim.row].measured["gmac"] / found[claim.over].measured["gmac"]
        is_decided = p < _LEVEL and not (claim.equal_cost and abs(cost - 1) > _EQUAL)
        verdict: Any = ("holds" if holds < fails else "does not hold") if is_decided else "undecided"
        seeds, videos = differences.shape
        effect = round(100 * float(differences.mean()), 4)
        verdicts.append(Verdict(claim, verdict, effect, interval, round(p, 6), videos, seeds, round(cost, 4)))
    return verdicts


def find_differences(one: RowResult, other: RowResult, on: str) -> NDArray[np.float64] | None:
    """Return 1, 0 or -1 for each seed and video (S, N) where only the first, both or neither, or the other row is right.

    The videos are those of the test and of further data sets with the same classes, or of the data set or group `on`; None if
    there are none. If one row was measured on more videos that begin with those of the other one, these count. A row without
    training counts for all seeds. Rows of different videos are a `ValueError`.
    """
    parts, others = (_answers_by_data(row, on) for row in (one, other))
    if not (parts and others):
        return None
    cut = []
    for (truth, right), (true, base) in zip(parts.values(), others.values(), strict=False):
        count = min(len(truth), len(true))
        if parts.keys() != others.keys() or not np.array_equal(truth[:count], true[:count]):
            raise ValueError(
                f"{one.recipe} and {other.recipe} were measured on different videos. Measure both on the same."
            )
        cut.append((right[:, :count], base[:, :count]))
    right, base = (np.concatenate(answers, 1) for answers in zip(*cut, strict=True))
    counts = len(right), len(base)
    count = max(counts) if 1 in counts else min(counts)
    return right[:count].astype(float) - base[:count] if right.size else None


def find_right(row: RowResult, on: str) -> NDArray[np.bool_]:
    """Return whether each run of a row is right about each video (S, N); see `find_differences`."""
    rights = [right for _, right in _answers_by_data(row, on).values()]
    return np.concatenate(rights, 1) if rights else np.empty((0, 0), bool)


def _answers_by_data(row: RowResult, on: str) -> dict[str, tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Return the classes of videos (N,) and whether each run is right (S, N), by data set."""
    names = list(row.runs[0]["answers"]) if row.runs else []
    own = class_labels(row, TEST)
    alike = [name for name in names if name == TEST or (own and own == class_labels(row, name))]
    parts = {}
    for data in [on] if on in names else alike:
        answers = [read_answers(run["answers"][data]) for run in row.runs]
        truth = answers[0][0]
        group = [number for number, one in enumerate(_classes(row, data)) if one.group == on]
        kept = np.isin(truth, group) | (on in ("", data))
        parts[data] = truth[kept], np.stack([(true == given)[kept] for true, given in answers])
    return parts


def class_labels(row: RowResult, data: str) -> list[str]:
    """Return the classes of a row's data set, by id; empty if it is not that of a procedural benchmark."""
    return [one.label for one in _classes(row, data)]


def _classes(row: RowResult, data: str) -> Sequence[Any]:
    name, _, task = row.dataset.partition(":")[0].partition("/")
    return BENCHMARKS[name].classes(task or "actions" if data == TEST else data) if name in BENCHMARKS else ()


def read_answers(texts: Mapping[str, str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the true classes (N,) of a run's videos and the classes that it answered (N,)."""
    true, given = (np.array(texts[name].split(), int) for name in ("true", "given"))
    return true, given


def _test(claim: Claim, differences: NDArray[np.float64], seed: int) -> tuple[tuple[float, float], float, float]:
    """Return the 95 % interval in points, and one-sided p values of "does not hold" and of "holds"."""
    rng = np.random.default_rng(seed)
    padded = np.concatenate([differences, np.tile([1.0, -1.0], (len(differences), 1))], 1)
    seeds, videos = padded.shape
    kinds, counts = np.unique(padded, axis=1, return_counts=True)  # many videos have the same differences
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), _DRAWS) / seeds
    by_video = rng.multinomial(videos, counts / videos, _DRAWS) / videos
    means = 100 * ((by_video @ kinds.T) * by_seed).sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    least, most = (0.0, claim.margin) if claim.direction == "greater" else (-claim.margin, -claim.margin)
    holds, fails = (float(1 + tail.sum()) / (_DRAWS + 1) for tail in (means <= least, means >= most))
    return (round(float(low), 4), round(float(high), 4)), holds, fails


def _adjust(values: Sequence[float], count: int) -> list[float]:
    """Correct p values as Holm does, the smallest ones of `count`.

    >>> _adjust([0.01, 0.04, 0.03], 3)
    [0.03, 0.06, 0.06]
    >>> _adjust([0.01, 0.04], 3)
    [0.03, 0.08]
    """
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, index in enumerate(np.argsort(values, kind="stable")):
        largest = max(largest, min(1.0, (count - rank) * values[index]))
        adjusted[index] = largest
    return adjusted


def render_claims(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the verdicts as lines of Markdown."""
    counts = [sum(one.verdict == kind for one in verdicts) for kind in ("holds", "does not hold", "undecided")]
    lines = [
        f"{len(verdicts)} claims: {counts[0]} hold, {counts[1]} do not, {counts[2]} are undecided. Paired over videos and seeds; p is "
        f"corrected for the number of claims of the file, measured or not (Holm), intervals are not. A gain below the margin counts as none.",
        "",
    ]
    heads = ["claim", "rows", "on", "videos x seeds", "points", "95 % interval", "margin", "p", "operations", "here"]
    cells = []
    for one in verdicts:
        claim = one.claim
        margin = f"{claim.margin:g}" if claim.direction == "greater" else f"no loss of {claim.margin:g}"
        low, high = one.interval
        cells.append(
            [
                f"{claim.paper}: {claim.text}",
                f"{claim.row}, {claim.over}",
                claim.on or "all",
                f"{one.videos} x {one.seeds}",
                f"{one.effect:+.1f}",
                f"{low:+.1f} to {high:+.1f}",
                margin,
                f"{one.p:.4f}",
                f"{one.cost:.2f}x",
                one.verdict,
            ]
        )
    return [*lines, *markdown_table(heads, cells)]


def render_groups(rows: Sequence[RowResult]) -> list[str]:
    """Return the accuracy of each row by group of classes and by data set, with its costs, as lines of Markdown."""
    groups = dict.fromkeys(one.group for row in rows for one in _classes(row, TEST))
    parts = ["", *groups, *dict.fromkeys(name for row in rows for run in row.runs for name in run["answers"])]
    cells = []
    for row in rows:
        shares = [f"{right.mean():.1%}" if right.size else "" for right in (find_right(row, part) for part in parts)]
        is_trained = "minutes" in row.measured
        costs = [f"{1e3 * row.measured['trainable_millions']:,.0f}" if is_trained else "0"]
        costs += [f"{1e3 * row.measured['gmac']:.0f}", f"{row.measured['minutes']:.1f}" if is_trained else ""]
        cells.append([row.recipe.partition("/")[2], row.title, *shares, *costs])
    return markdown_table(["row", "what", "all", *parts[1:], "trained (k)", "MMAC", "training (min)"], cells)
