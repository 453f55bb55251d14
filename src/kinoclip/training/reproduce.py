"""Reproduce rows of papers: train missing models, measure with each row's protocol, compare with the printed numbers."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader

from kinoclip.data import load_videos
from kinoclip.data.catalog import catalog
from kinoclip.data.coverage import Coverage, content_fingerprint
from kinoclip.data.samples import ReadableSamples, VideoSamples, class_names, collate_readable
from kinoclip.evaluation.class_lists import find_class_lists
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.evaluation.report import Report
from kinoclip.inference.backends import load_recognizer
from kinoclip.inference.budget import describe_environment
from kinoclip.inference.profile import profile
from kinoclip.kinoshapes.benchmarks import BENCHMARKS, split_source
from kinoclip.methods import METHODS
from kinoclip.methods.candidates import encode_candidates
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.storage import claimed, hash_json, write_json, write_text
from kinoclip.training import claims
from kinoclip.training.batches import FeatureSamples
from kinoclip.training.build_model import build_model, label_texts
from kinoclip.training.comparison import RowResult, Run, compare, markdown_table, mean_row, render
from kinoclip.training.data import load_attributes, load_test, prepare_data
from kinoclip.training.pictures import draw_pictures
from kinoclip.training.reasons import REASONS, measure_reasons
from kinoclip.training.recipe import Recipe, find_recipes, load_recipe, read_table, recipe_names
from kinoclip.training.run_folder import RESULT, claim_folder, log
from kinoclip.training.smoke import Smoke, single_thread
from kinoclip.training.trainer import train

IDENTITY, RESULTS, TABLE = "reproduce.json", "results.json", "results.md"
CLAIMS, TIME, _FEATURES = "claims.json", "time.json", "features"
_FILES = ("data.attributes", "data.corpus", "data.descriptions", "data.chinese_labels", "data.chinese_clip")


@dataclass(frozen=True)
class Options:
    """How rows are reproduced."""

    # changes to every recipe, by dotted name; a file, such as `data.attributes`, only to recipes that have one
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: int | None = None  # runs with different seeds; None: that of each row
    starts: Mapping[str, str] = field(default_factory=dict)  # recipe to a folder that is used instead of training it
    strict: bool = False  # use the paper's equations where the authors' code differs
    smoke: bool = False  # use tiny random models and procedural videos; the numbers mean nothing
    quick: bool = False  # the rows and settings of `[quick]` in their files, with one seed each
    num_workers: int = 0  # processes that decode


def reproduce(
    rows: Sequence[str],
    data: Sequence[str],
    output: str | Path,
    options: Options | None = None,
    *,
    report: Callable[[str], None] = log,
) -> list[RowResult]:
    """Train and measure rows, and write `results.json` and `results.md`; a second call continues what was interrupted.

    Where the files of the rows have claims, `claims.json` and `results.md` have the verdicts, and pictures are drawn.

    Args:
        rows: recipes, tables ("bike/Table 6a"), files ("bike") or "all", see `find_recipes`.
        data: `NAME=SOURCE` for each data set, or one source for all; KinoShapes needs none.
        output: a new folder, or that of a call with the same options, but for rows and the number of seeds. Results are
            those of the rows of the last call.
        options: see `Options`.
        report: called with a line of text before each step.

    Returns:
        One result for each row. Models and measurements that several rows share are computed once.

    Raises:
        ValueError: a row is unknown, data is missing, or the folder holds results of other options.
        RuntimeError: another process writes to the folder.
    """
    options = options or Options()
    names, folder = find_recipes(rows), Path(output).resolve()  # a run records the folder that it starts from
    if options.quick:
        names = [name for name in names if name.partition("/")[2] in _quick(name).get("rows", ())]
        if not names:
            raise ValueError(f"{', '.join(rows)} has no rows for --quick, which [quick] of a recipe file names.")
    for name in options.starts:
        load_recipe(name)  # raises if it is unknown
    identity, free = {"rows": names, **asdict(options)}, ("num_workers", "rows", "seeds")
    with (
        claim_folder(folder, IDENTITY, identity, may_differ=free),
        single_thread() if options.smoke else nullcontext(),
    ):
        job = _Job(
            folder, DataSources(data or (_quick(names[0]).get("data", ()) if options.quick else ())), options, report
        )
        results: list[RowResult] = []
        with _timed(folder / TIME) as read_time:
            for number, name in enumerate(names, 1):
                report(f"[{number}/{len(names)}] {name}: {job.recipe(name).title}")
                results.append(job.row(name))
                write_json(folder / RESULTS, [result.to_dict() for result in results], owns=claimed)
                write_text(folder / TABLE, render(results), owns=claimed)
            if any(read_table(name.partition("/")[0], "claims") for name in names):
                conclude(folder, results, read_time(), report)
        return results


def conclude(
    folder: Path, results: Sequence[RowResult], work: Mapping[str, Any], report: Callable[[str], None]
) -> None:
    """Decide the claims of the files of rows, and write `claims.json`, `results.md` and pictures into a folder.

    `work` has the seconds and the machines of the measurements.
    """
    decided: dict[str, list[dict[str, Any]]] = {}
    seeds = sorted({seed for result in results for seed in result.seeds})
    lines = [f"Measured in {work['seconds'] / 3600:.2f} hours, with seeds {', '.join(map(str, seeds))}, on:", ""]
    lines += [f"- {', '.join(f'{name} {value}' for name, value in one.items())}" for one in work["machines"]]
    for file in dict.fromkeys(result.recipe.partition("/")[0] for result in results):
        if not (known := claims.load_claims(file)):
            continue
        rows = [row for row in results if row.recipe.partition("/")[0] == file]
        verdicts = claims.decide(known, rows)
        decided[file] = [verdict.to_dict() for verdict in verdicts]
        lines += ["", f"## {file}: accuracy by group", "", *claims.render_groups(rows)]
        explained = [(row, name) for row in rows for name in REASONS if name in row.measured]
        if explained:
            lines += ["", f"## {file}: explanations against the truth", ""]
            lines += markdown_table(["row", "what", "measured", "by chance"], map(_reason, explained))
        if verdicts:
            lines += ["", f"## {file}: claims", "", *claims.render_claims(verdicts)]
        try:
            lines += ["", *(f"![{path.stem}]({path.name})" for path in draw_pictures(folder, rows, file))]
        except ImportError as error:
            report(str(error))
            lines += ["", f"No pictures: {error}"]
    write_json(folder / CLAIMS, decided, owns=claimed)
    write_text(folder / TABLE, render(results) + "\n" + "\n".join(lines) + "\n", owns=claimed)


def _reason(pair: tuple[RowResult, str]) -> list[str]:
    row, name = pair
    shares = (row.measured[key] for key in (name, REASONS[name]))
    return [row.recipe.partition("/")[2], name.replace("_", " "), *(f"{share:.1%}" for share in shares)]


@contextmanager
def _timed(path: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """Add the time and the machine of this call to the record of a job; yield a function that returns the record."""
    before: dict[str, Any] = {"seconds": 0.0, "machines": []}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
    machine, began = describe_environment(), time.monotonic()
    machines = before["machines"] if machine in before["machines"] else [*before["machines"], machine]

    def read() -> dict[str, Any]:
        return {"seconds": round(before["seconds"] + time.monotonic() - began, 1), "machines": machines}

    try:
        yield read
    finally:
        if (path.parent / "runs").is_dir() or (path.parent / RESULTS).is_file():  # the job has begun
            write_json(path, read(), owns=claimed)


def _quick(name: str) -> dict[str, Any]:
    return read_table(name.partition("/")[0], "quick")


class DataSources:
    """The sources of data sets by name.

    An entry is `NAME=SOURCE` with a name of the catalog, or one source for all other data sets, whose folder
    `SOURCE/NAME` is preferred. Two entries for the same data set are a `ValueError`.
    """

    def __init__(self, entries: Sequence[str]):
        self._named: dict[str, str] = {}
        for entry in entries:
            name, equals, source = entry.partition("=")
            key, source = (name, source) if equals and name in (*catalog(), *BENCHMARKS) else ("", entry)
            if key in self._named:
                raise ValueError(
                    f"--data is given twice for {key or 'all data sets'}: {self._named[key]} and {source}."
                )
            self._named[key] = source

    def find(self, recipe: Recipe) -> str:
        """Return the source of a recipe's data set; raise a `ValueError` if there is none."""
        name, _, task = recipe.dataset.partition("/")
        task = task or "actions"
        if name in BENCHMARKS and (task.partition(":")[0] != "actions" or name not in self._named):
            return self.draw(f"{name}/{task}")
        if name in self._named:
            return self._named[name]
        source = self._named.get("")
        if source is None:
            raise ValueError(
                f"{recipe.name} needs {recipe.dataset or 'videos'}, but there is no --data for it. Add --data "
                f"{recipe.dataset + '=' if recipe.dataset else ''}FOLDER."
            )
        inside = Path(source) / name
        return str(inside) if name and inside.is_dir() else source

    def draw(self, source: str) -> str:
        """Return the task of a procedural benchmark with as many clips as the entry of this benchmark names."""
        given = self._named.get(source.partition("/")[0], "")
        counts = given[given.find(":") :] if split_source(given) and ":" in given else ""
        return source.partition(":")[0] + counts if counts else source


class _Job:
    """Train and measure rows in a folder, each model and measurement once."""

    def __init__(self, folder: Path, sources: DataSources, options: Options, report: Callable[[str], None]):
        self.folder, self.sources, self.options, self.report = folder, sources, options, report
        self.smoke = Smoke(folder / "smoke") if options.smoke else None
        self._recipes: dict[str, Recipe] = {}
        self._models: dict[str, Path] = {}
        self._rows: dict[str, RowResult] = {}

    def recipe(self, name: str) -> Recipe:
        """Return a recipe with this job's changes."""
        if name not in self._recipes:
            recipe = load_recipe(name)
            recipe = recipe.strict() if self.options.strict else recipe
            # files replace those that the recipe reads, and a row that is measured only is not trained
            unread = [name for name in _FILES if recipe.data[name.partition(".")[2]] is None]
            unread += ["data.test_attributes"] if recipe.data["attributes"] is None else []
            unread += [] if recipe.training.epochs else ["training.epochs"]
            settings = {**(_quick(name).get("settings", {}) if self.options.quick else {}), **self.options.settings}
            recipe = recipe.with_settings({k: v for k, v in settings.items() if k not in unread})
            self._recipes[name] = recipe if self.smoke is None else self.smoke.shrink(recipe)
        return self._recipes[name]

    def row(self, name: str) -> RowResult:
        """Return the result of a row, after all runs that it needs."""
        if name not in self._rows:
            recipe = self.recipe(name)
            if recipe.evaluation["mean_of"]:
                result = mean_row(recipe, [self.row(other) for other in recipe.evaluation["mean_of"]])
            else:
                recipe = self._choose_rate(recipe)
                wanted = self.options.seeds or (1 if self.options.quick else recipe.runs.seeds)
                count = wanted if recipe.training.epochs else 1
                seeds = range(recipe.training.seed, recipe.training.seed + count)
                folds = recipe.runs.folds or [recipe.data["fold"]]
                runs = [self._run(recipe, seed, fold) for seed in seeds for fold in folds]
                other = recipe.evaluation["gain_over"]
                result = compare(recipe, runs, self.row(other) if other else None, self._caveats())
            self._rows[name] = result
        return self._rows[name]

    def _caveats(self) -> list[str]:
        caveats = ["--quick: fewer rows, seeds and epochs"] if self.options.quick else []
        if self.options.smoke:
            caveats.append(
                "smoke test: random models of width 32 on procedural videos; the measured numbers mean nothing"
            )
        if self.options.strict:
            caveats.append("strict: the paper's equations where the authors' code differs")
        if self.options.settings:
            changed = (f"{name} = {value!r}" for name, value in self.options.settings.items())
            caveats.append(f"changed settings: {', '.join(changed)}")
        return caveats

    def _run(self, recipe: Recipe, seed: int, fold: int) -> Run:
        """Train one run of a row if it has epochs, and measure it."""
        recipe = recipe.with_settings({"training.seed": seed, "data.fold": fold})
        source = self._source(recipe)
        test = load_test(recipe, self._data(recipe))
        trained = self._train(recipe) if recipe.training.epochs else None
        key = [
            trained.name if trained else source,
            _training_key(recipe),
            recipe.evaluation,
            _measurements(recipe),
            "answers",
        ]
        file = (
            self.folder
            / "measurements"
            / f"{hash_json([*key, Coverage.of(test).fingerprint, content_fingerprint(test)])[:24]}.json"
        )
        if not file.is_file():
            file.parent.mkdir(exist_ok=True)
            self.report(f"measuring {_run_name(recipe)} with {recipe.evaluation['protocol']}")
            write_json(file, self._measure(recipe, test, source, trained), owns=claimed)
        measurement = json.loads(file.read_text(encoding="utf-8"))
        record = {} if trained is None else json.loads((trained / RESULT).read_text(encoding="utf-8"))
        return Run(seed, fold, None if trained is None else trained.name, measurement, record)

    def _source(self, recipe: Recipe) -> str:
        """Return the model that a recipe starts from; train it first if it is that of another recipe."""
        if recipe.start in self.options.starts:
            return self.options.starts[recipe.start]
        if recipe.start in recipe_names():
            return str(self._train(self._choose_rate(self.recipe(recipe.start))))
        return recipe.start if self.smoke is None else self.smoke.start(recipe.start)

    def _choose_rate(self, recipe: Recipe) -> Recipe:
        """Return a recipe with the one of its learning rates that is best on the validation videos with the first seed."""
        rates = recipe.runs.rates
        if not rates or not recipe.training.epochs or self.options.quick:
            return recipe
        tried = [recipe.with_settings({"training.lr": rate}) for rate in rates]

        def validate(one: Recipe) -> float:
            record = json.loads((self._train(one) / RESULT).read_text(encoding="utf-8"))
            return float(record["best"]["value"])

        chosen = max(tried, key=validate)
        caveat = (
            f"learning rate {chosen.training.lr:g} of {', '.join(f'{rate:g}' for rate in rates)}, by validation videos"
        )
        return replace(chosen, caveats=(*chosen.caveats, caveat))

    def _data(self, recipe: Recipe) -> Any:
        return self.sources.find(recipe) if self.smoke is None else self.smoke.videos(recipe)

    def _train(self, recipe: Recipe) -> Path:
        """Return the folder of a recipe's model; train it if it is missing."""
        source = self._source(recipe)
        rules = recipe.evaluation
        names = ("selection", "validation_protocol", "metric", "every")
        selecting = [] if rules["selection"] == "last" else [rules[name] for name in names]
        key = hash_json([_training_key(recipe), selecting, source])
        if key not in self._models:
            path = self.folder / "runs" / _run_name(recipe)
            parts = prepare_data(recipe, self._data(recipe))
            if not (path / RESULT).is_file():
                self.report(f"training {path.name}")
            train(
                recipe,
                parts.train,
                path,
                start=source,
                validation=parts.validation,
                resume=path.exists(),
                num_workers=self.options.num_workers,
                features=self.folder / _FEATURES,
            )
            self._models[key] = path
        return self._models[key]

    def _measure(self, recipe: Recipe, test: Any, source: str, trained: Path | None) -> dict[str, Any]:
        """Measure a model on a row's test part, on its further data sets, and its costs."""
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
        model, processor = (
            load_recognizer(trained, device="cpu", dtype="float32")
            if trained
            else build_model(recipe, class_names(test), source)
        )
        torch.nn.Module.to(model.eval().requires_grad_(False), device)
        rules = recipe.evaluation_settings

        def store(samples: VideoSamples) -> VideoSamples:
            return FeatureSamples.filled(samples, self.folder / _FEATURES, model)

        def measure(dataset: Any, lists: Sequence[str] = ()) -> Report:
            names = class_names(dataset)
            return evaluate(
                model,
                processor,
                dataset,
                rules.protocol,
                labels=label_texts(recipe, names) if model.config.reads_text else None,
                attributes=load_attributes(recipe, dataset),
                class_lists=find_class_lists(lists, names) or None,
                selection=rules.selection,
                name=recipe.name,
                dataset_name=recipe.dataset,
                batch_size=rules.batch_size,
                num_workers=self.options.num_workers,
                replace_samples=store if trained and recipe.training.cache_features else None,
            )

        report = measure(test, rules.class_lists)
        metrics, answers = dict(report.metrics), _answers(claims.TEST, report)
        for entry in rules.data:
            further, name = (
                measure(load_videos(self.sources.draw(entry), split="test") if self.smoke is None else test),
                entry.rpartition("/")[2].partition(":")[0],
            )
            metrics |= {f"{name}_{metric}": value for metric, value in further.metrics.items()}
            answers |= _answers(name, further)
        videos: Any = processor.video_processor
        costs = _measure_costs(model, processor, videos.num_frames, rounds=1 if self.smoke else 5)
        if rules.explained:
            costs |= measure_reasons(model, processor, rules.explained)
        for name in _measurements(recipe):
            samples = VideoSamples(test, videos, discarded="discarded_pixel_values" in model.further_inputs)
            loader = DataLoader(ReadableSamples(samples), rules.batch_size, collate_fn=collate_readable)
            batches = (batch for batch in loader if "index" in batch)
            texts = label_texts(recipe, class_names(test))
            value = METHODS[recipe.method].measurements[name](model, processor, batches, texts)
            costs |= {} if value is None else {name: value}
        return {**json.loads(report.to_json()), "metrics": metrics, "costs": costs, "answers": answers}


def _answers(name: str, report: Report) -> dict[str, dict[str, str]]:
    """Return the true class of each video and the one with the best score, below a name; empty for several labels."""
    if report.targets.ndim > 1:
        return {}
    columns = {"true": report.targets, "given": report.scores.argmax(1)}
    return {name: {key: " ".join(map(str, ids.tolist())) for key, ids in columns.items()}}


def _training_key(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that the trained weights depend on, apart from the start and the selection."""
    names = ("method", "dataset", "model", "data", "training")
    return {name: value for name, value in recipe.to_dict().items() if name in names}


def _measurements(recipe: Recipe) -> list[str]:
    """Return the measurements of the method that the paper prints in the row; all of them without a paper."""
    known = METHODS[recipe.method].measurements
    return [name for name in known if name in recipe.paper or not recipe.paper]


@torch.inference_mode()
def _measure_costs(
    model: VideoRecognizer, processor: Any, num_frames: int, rounds: int, videos: int = 8
) -> dict[str, float]:
    """Return parameters, operations of one view in both conventions, and videos per second from pixels to logits."""
    full, paper = profile(model.config), profile(model.config, flops="paper")
    size, frames = model.config.frame_size, model.config.encoded_frames(num_frames)
    pixels = torch.randn(videos, frames, 3, size, size, device=model.device, dtype=model.dtype)
    inputs: dict[str, Any] = {"pixel_values_videos": pixels}
    if model.candidates() is None:
        inputs["text_features"] = encode_candidates(model, processor, ["a", "b"])
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        float(model(**inputs).logits.sum())  # waits for the device
        seconds.append(time.perf_counter() - began)
    return {
        "params_millions": full.parameters / 1e6,
        "trainable_millions": full.trainable_parameters / 1e6,
        "gmac": full.gmacs,
        "gmac_paper": paper.gmacs,
        "videos_per_second": videos / median(seconds[1:]),
    }


def _run_name(recipe: Recipe) -> str:
    name = Path(recipe.name).stem if recipe.name.endswith(".toml") else recipe.name.replace("/", "-")
    rate = f"-lr{recipe.training.lr:g}" if recipe.runs.rates else ""
    return f"{name}-seed{recipe.training.seed}-fold{recipe.data['fold']}{rate}"
