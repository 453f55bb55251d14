"""Compare the measured numbers of a row with the printed ones."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from kinoclip.evaluation.report import SELECTIONS, summarize
from kinoclip.training.recipe import Recipe

# columns of the table of costs: key, heading
_COSTS = {
    "params_millions": "parameters (M)",
    "trainable_millions": "trained (M)",
    "gflops": "GFLOPs, printed",
    "gmac": "GMAC",
    "gmac_paper": "GMAC without attention",
    "minutes": "training (min)",
    "memory_mb": "peak memory (MB)",
    "training_videos_per_second": "videos/s, training",
    "videos_per_second": "videos/s, inference",
}


@dataclass(frozen=True)
class Run:
    """One run of a row."""

    seed: int  # of training
    fold: int  # of the data set
    folder: str | None  # name of the run's folder; None without training
    measurement: Mapping[str, Any]  # a report of `evaluate`, with `costs`
    training: Mapping[str, Any]  # content of `training.json`; empty without training


@dataclass(frozen=True)
class RowResult:
    """Printed and measured numbers of a row. Accuracies are percentages."""

    recipe: str
    title: str
    table: str
    method: str
    dataset: str
    protocol: str
    selection: str
    seeds: list[int]
    folds: list[int]
    printed: dict[str, float]
    measured: dict[str, float]  # mean over runs; also `NAME_std` for several runs
    intervals: dict[str, tuple[float, float]]  # 95 %: of the mean over runs, or of the single run over videos
    difference: dict[str, float]  # measured minus printed
    caveats: list[str]  # limitations of the comparison
    runs: list[dict[str, Any]]  # seed, fold, folder, number of videos, metrics, accuracy of each class, answers

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
        return asdict(self)


def compare(recipe: Recipe, runs: Sequence[Run], base: RowResult | None, caveats: Sequence[str]) -> RowResult:
    """Aggregate the runs of a row, at least one, and compare them with the printed numbers.

    `base` is the row that `top1_gain` is the difference to. Caveats are added to those of the recipe and of the runs.
    """
    measured, intervals = {}, {}
    for name, values in summarize([run.measurement["metrics"] for run in runs]).items():
        measured[name] = 100 * values["mean"]
        if len(runs) > 1:
            measured[f"{name}_std"] = 100 * values["std"]
        ends = values.get("interval") or runs[0].measurement["intervals"].get(name)
        if ends is not None:
            intervals[name] = (100 * ends[0], 100 * ends[1])
    costs = [{**run.measurement["costs"], **_training_costs(run.training)} for run in runs]
    names = dict.fromkeys(name for cost in costs for name in cost)  # a run without an entity has none of it to measure
    measured |= {name: fmean(cost[name] for cost in costs if name in cost) for name in names}
    if base is not None:
        measured["top1_gain"] = measured["top1"] - base.measured["top1"]
    caveats = [*caveats, *recipe.caveats, *(caveat for run in runs for caveat in _run_caveats(recipe, run))]
    return _build_result(recipe, runs, measured, intervals, caveats)


def mean_row(recipe: Recipe, rows: Sequence[RowResult]) -> RowResult:
    """Average the measured numbers of other rows, as a row of means over data sets prints them."""
    shared = [name for name in rows[0].measured if all(name in row.measured for row in rows)]
    measured = {name: fmean(row.measured[name] for row in rows) for name in shared}
    caveats = [*recipe.caveats, *(caveat for row in rows for caveat in row.caveats)]
    return _build_result(recipe, [], measured, {}, [f"mean of {', '.join(row.recipe for row in rows)}", *caveats])


def _build_result(
    recipe: Recipe,
    runs: Sequence[Run],
    measured: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    caveats: Sequence[str],
) -> RowResult:
    compared = {name: _find_measured(measured, name) for name in recipe.paper}
    return RowResult(
        recipe=recipe.name,
        title=recipe.title,
        table=recipe.table,
        method=recipe.method,
        dataset=recipe.dataset,
        protocol=recipe.evaluation["protocol"],
        selection=recipe.evaluation["selection"],
        seeds=sorted({run.seed for run in runs}),
        folds=sorted({run.fold for run in runs}),
        printed=dict(recipe.paper),
        measured={name: round(value, 4) for name, value in measured.items()},
        intervals={name: (round(low, 4), round(high, 4)) for name, (low, high) in intervals.items()},
        difference={name: round(v - recipe.paper[name], 4) for name, v in compared.items() if v is not None},
        caveats=list(dict.fromkeys(caveats)),
        runs=[
            {
                **{name: getattr(run, name) for name in ("seed", "fold", "folder")},
                "videos": run.measurement["num_videos"],
                **{name: run.measurement[name] for name in ("metrics", "per_class")},
                "answers": run.measurement.get("answers", {}),
            }
            for run in runs
        ],
    )


def _find_measured(measured: Mapping[str, float], name: str) -> float | None:
    """Return the measured value of a printed name; `top1_mean` is the mean of `top1` over runs."""
    return measured.get(name, measured.get(name.removesuffix("_mean")))


def _training_costs(record: Mapping[str, Any]) -> dict[str, float]:
    if not record:
        return {}
    speed = record["training_videos_per_second"]
    return {
        "minutes": record["seconds"] / 60,
        "memory_mb": record["memory_mb"],
        # the method's own count holds if the recipe freezes nothing else
        **({"trainable_millions": record["trained_parameters"] / 1e6} if "trained_parameters" in record else {}),
        **({} if speed is None else {"training_videos_per_second": speed}),
    }


def _run_caveats(recipe: Recipe, run: Run) -> list[str]:
    found = []
    if recipe.training.epochs and recipe.evaluation["selection"] == "test":
        found.append(SELECTIONS["test"])
    failures = len(run.measurement["failures"])
    if failures:
        found.append(f"{failures} test videos could not be read")
    coverage = run.measurement["settings"]["coverage"]
    if coverage.get("expected") and coverage["expected"] != coverage["found"]:
        found.append(f"measured on {coverage['found']:,} of {coverage['expected']:,} test videos")
    if run.training and run.training["precision"] != recipe.training.precision:
        found.append(f"trained with precision {run.training['precision']!r} instead of {recipe.training.precision!r}")
    return found


def render(rows: Sequence[RowResult]) -> str:
    """Return the results as Markdown: accuracies, costs and caveats of each table."""
    lines = ["# Printed and measured", "", "Accuracies in percent; ± is the standard deviation over runs."]
    groups: dict[str, list[RowResult]] = {}
    for row in rows:
        groups.setdefault(f"{row.recipe.partition('/')[0]}: {row.table or 'own rows'}", []).append(row)
    for title, members in groups.items():
        lines += ["", f"## {title}", ""]
        lines += markdown_table(
            ["row", "what", "number", "printed", "measured", "95 % interval", "difference"], _numbers(members)
        )
        lines += [
            "",
            *markdown_table(["row", "protocol", "selection", "runs", *_COSTS.values()], map(_costs, members)),
        ]
        caveats: dict[str, list[str]] = {}
        for row in members:
            for caveat in row.caveats:
                caveats.setdefault(caveat, []).append(_short(row))
        lines += ["", *(f"- {caveat} ({', '.join(names)})" for caveat, names in caveats.items())]
    return "\n".join(lines).rstrip() + "\n"


def _numbers(rows: Sequence[RowResult]) -> list[list[str]]:
    cells = []
    for row in rows:
        shown = [name for name in row.printed if name not in _COSTS] or ["top1" if "top1" in row.measured else "map"]
        for name in shown:
            plain = name.removesuffix("_mean")
            interval, deviation = row.intervals.get(plain), row.measured.get(f"{plain}_std")
            measured = _cell(_find_measured(row.measured, name))
            cells.append(
                [
                    _short(row),
                    row.title,
                    name,
                    _cell(row.printed.get(name)),
                    measured + ("" if deviation is None else f" ± {deviation:.2f}"),
                    "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}",
                    f"{row.difference[name]:+.2f}" if name in row.difference else "",
                ]
            )
    return cells


def _costs(row: RowResult) -> list[str]:
    runs = f"{len(row.runs)}" if row.runs else ""
    values = []
    for name in _COSTS:
        printed = f" (printed {row.printed[name]:g})" if name in row.printed and name != "gflops" else ""
        value = row.printed.get(name) if name == "gflops" else row.measured.get(name)
        values.append(_cell(value) + printed)
    return [_short(row), row.protocol, row.selection, runs, *values]


def _short(row: RowResult) -> str:
    return row.recipe.rpartition("/")[2]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if abs(value) < 1000 else f"{value:,.0f}"


def markdown_table(heads: Sequence[str], rows: Any) -> list[str]:
    """Return a table as lines of Markdown."""
    return [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *(f"| {' | '.join(row)} |" for row in rows)]
