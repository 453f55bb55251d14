"""Reproduce rows of papers: train what is missing, measure with each row's own protocol, compare with the printed numbers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader

from kinoclip.data import load_videos
from kinoclip.data.coverage import Coverage
from kinoclip.data.samples import VideoSamples, class_names
from kinoclip.evaluation.class_lists import find_class_lists
from kinoclip.evaluation.collecting import ReadableVideos, collate_readable
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.inference.loading import load_recognizer
from kinoclip.inference.output_lock import OutputLock
from kinoclip.inference.profile import profile
from kinoclip.methods import METHODS
from kinoclip.recognizer import VideoRecognizer
from kinoclip.whole_files import write_whole

from .comparison import RowResult, Run, compare, mean_row, render
from .loop import train
from .output import RESULT, differences, write_json
from .preparing import load_test, prepare_data, read_phrases
from .recipe import Recipe, load_recipe, recipe_names
from .rows import DataSources, find_rows
from .run import say
from .smoke import Smoke, single_thread
from .starting import label_texts, start_model

IDENTITY, RESULTS, TABLE = "reproduce.json", "results.json", "results.md"
_FILES = ("data.attributes", "data.corpus", "data.descriptions", "data.chinese_labels", "data.chinese_clip")


@dataclass(frozen=True)
class Options:
    """How rows are reproduced.

    Args:
        settings: changes of every recipe, by dotted name; a file, such as `data.attributes`, only of those that name one.
        seeds: number of runs with different seeds; None for each row's own number.
        starts: recipe to the folder of its trained model, which is then not trained here.
        strict: the paper's equations where the authors' code differs.
        smoke: random models of width 32 on four-class procedural videos: every step runs, the numbers mean nothing.
        num_workers: processes that decode.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: int | None = None
    starts: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    smoke: bool = False
    num_workers: int = 0


def reproduce(
    rows: Sequence[str],
    data: Sequence[str],
    output: str | Path,
    options: Options | None = None,
    *,
    report: Callable[[str], None] = say,
) -> list[RowResult]:
    """Train and measure rows, and write `results.json` and `results.md`; a second call continues what was interrupted.

    Args:
        rows: recipes, tables ("bike/Table 6a"), files ("bike") or "all", see `find_rows`.
        data: `NAME=SOURCE` for each data set, or one source for all; KinoShapes needs none.
        output: a new folder, or that of the same call.
        options: see `Options`.
        report: called with a line of text before each step.

    Returns:
        One result for each row. A model, run or measurement that several rows share is computed once.

    Raises:
        ValueError: an unknown row, missing data, or an output folder of other rows or options.
        RuntimeError: another job writes to the folder.
    """
    options = options or Options()
    names = find_rows(rows)
    for name in options.starts:
        load_recipe(name)  # an unknown one would be ignored
    with _claimed(Path(output), names, options) as folder, single_thread() if options.smoke else nullcontext():
        job = _Job(folder, DataSources(data), options, report)
        results: list[RowResult] = []
        for number, name in enumerate(names, 1):
            report(f"[{number}/{len(names)}] {name}: {job.recipe(name).title}")
            results.append(job.row(name))
            write_json(folder / RESULTS, [result.to_dict() for result in results])
            write_whole(folder / TABLE, render(results))
        return results


class _Job:
    """Trains and measures rows in a folder, everything once."""

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
            # a file takes the place of one that the recipe reads
            unread = [name for name in _FILES if recipe.data[name.partition(".")[2]] is None]
            unread += ["data.test_attributes"] if recipe.data["attributes"] is None else []
            recipe = recipe.with_settings({k: v for k, v in self.options.settings.items() if k not in unread})
            self._recipes[name] = recipe if self.smoke is None else self.smoke.shrink(recipe)
        return self._recipes[name]

    def row(self, name: str) -> RowResult:
        """Return the result of a row, after all runs that it needs."""
        if name not in self._rows:
            recipe = self.recipe(name)
            if recipe.evaluation["mean_of"]:
                result = mean_row(recipe, [self.row(other) for other in recipe.evaluation["mean_of"]])
            else:
                runs = [self._run(recipe, seed, fold) for seed in self._seeds(recipe) for fold in self._folds(recipe)]
                other = recipe.evaluation["gain_over"]
                result = compare(recipe, runs, self.row(other) if other else None, self._caveats())
            self._rows[name] = result
        return self._rows[name]

    def _seeds(self, recipe: Recipe) -> list[int]:
        count = self.options.seeds or recipe.runs.seeds
        first = recipe.training.seed
        return [first + number for number in range(count if recipe.training.epochs else 1)]

    def _folds(self, recipe: Recipe) -> list[int]:
        return recipe.runs.folds or [recipe.data["fold"]]

    def _caveats(self) -> list[str]:
        smoke = "smoke test: random models of width 32 on procedural videos; the measured numbers mean nothing"
        strict = "strict: the paper's equations where the authors' code differs"
        changed = [f"{name} = {value!r}" for name, value in self.options.settings.items()]
        return [
            *([smoke] if self.options.smoke else []),
            *([strict] if self.options.strict else []),
            *([f"changed settings: {', '.join(changed)}"] if changed else []),
        ]

    def _run(self, recipe: Recipe, seed: int, fold: int) -> Run:
        """Train one run of a row if it trains, and measure it."""
        recipe = recipe.with_settings({"training.seed": seed, "data.fold": fold})
        source = self._source(recipe)
        test = load_test(recipe, self._data(recipe))
        trained = self._train(recipe) if recipe.training.epochs else None
        wanted = _wanted_measurements(recipe)
        key = [trained.name if trained else source, _essentials(recipe), recipe.evaluation, wanted]
        key.append(Coverage.of(test).fingerprint)
        place = self.folder / "measurements" / f"{_digest(key)}.json"
        if not place.is_file():
            place.parent.mkdir(exist_ok=True)
            self.report(f"measuring {_run_name(recipe)} with {recipe.evaluation['protocol']}")
            write_json(place, self._measure(recipe, test, source, trained))
        found = json.loads(place.read_text(encoding="utf-8"))
        record = {} if trained is None else json.loads((trained / RESULT).read_text(encoding="utf-8"))
        return Run(seed, fold, None if trained is None else trained.name, found, record)

    def _source(self, recipe: Recipe) -> str:
        """Return what a recipe starts from, after training that if it is another recipe."""
        if recipe.start in self.options.starts:
            return self.options.starts[recipe.start]
        if recipe.start in recipe_names():
            return str(self._train(self.recipe(recipe.start)))
        return recipe.start if self.smoke is None else self.smoke.start(recipe.start)

    def _data(self, recipe: Recipe) -> Any:
        return self.sources.find(recipe) if self.smoke is None else self.smoke.videos(recipe)

    def _train(self, recipe: Recipe) -> Path:
        """Return the folder of a recipe's model, trained now unless it is there."""
        source = self._source(recipe)
        rules = recipe.evaluation
        names = ("selection", "validation_protocol", "metric", "every")
        selecting = [] if rules["selection"] == "last" else [rules[name] for name in names]
        key = _digest([_essentials(recipe), selecting, source])
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
            )
            self._models[key] = path
        return self._models[key]

    def _measure(self, recipe: Recipe, test: Any, source: str, trained: Path | None) -> dict[str, Any]:
        """Measure a model on a row's test part, on its further data sets, and what it costs."""
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
        model, processor = load_recognizer(trained) if trained else start_model(recipe, class_names(test), source)
        torch.nn.Module.to(model.eval(), device)
        rules = recipe.evaluation_settings
        options: dict[str, Any] = {"batch_size": rules.batch_size, "num_workers": self.options.num_workers}

        def measured(dataset: Any, **extra: Any) -> Any:
            names = class_names(dataset)
            texts = label_texts(recipe, names) if model.config.reads_text else None
            lists = find_class_lists(extra.pop("lists", []), names)
            return evaluate(
                model,
                processor,
                dataset,
                rules.protocol,
                labels=texts,
                attributes=read_phrases(recipe, dataset),
                class_lists=lists or None,
                selection=rules.selection,
                name=recipe.name,
                dataset_name=recipe.dataset,
                **options,
            )

        found = measured(test, lists=rules.class_lists)
        metrics = dict(found.metrics)
        for entry in rules.data:
            dataset = load_videos(entry, split="test") if self.smoke is None else test
            further = measured(dataset)
            metrics |= {f"{entry.rpartition('/')[2]}_{name}": value for name, value in further.metrics.items()}
        videos: Any = getattr(processor, "video_processor", processor)
        costs = _measure_costs(model, processor, videos.num_frames, rounds=1 if self.smoke else 5)
        for name in _wanted_measurements(recipe):
            samples = VideoSamples(test, videos, discarded="discarded_pixel_values" in model.loss_inputs)
            loader = DataLoader(ReadableVideos(samples), rules.batch_size, collate_fn=collate_readable)
            batches = (batch for batch, _ in loader if batch is not None)
            measure = METHODS[recipe.method].measurements[name]
            value = measure(model, processor, batches, label_texts(recipe, class_names(test)))
            costs |= {} if value is None else {name: value}
        report = json.loads(found.to_json())
        return {**report, "metrics": metrics, "costs": costs}


def _essentials(recipe: Recipe) -> dict[str, Any]:
    """Return what decides on the trained weights, apart from the start and the selection."""
    names = ("method", "dataset", "model", "data", "training")
    return {name: value for name, value in recipe.to_dict().items() if name in names}


def _wanted_measurements(recipe: Recipe) -> list[str]:
    """Return the measurements of the method that the row prints; all of them where the row prints nothing."""
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
        ids = {name: tensor.to(model.device) for name, tensor in processor.encode_labels(["a", "b"]).items()}
        inputs["text_features"] = model.encode_text(**ids)
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


@contextmanager
def _claimed(folder: Path, names: list[str], options: Options) -> Iterator[Path]:
    """Hold an output folder, and check that it is new or of the same job.

    Raises:
        ValueError: it holds other things, or results of other rows or options.
        RuntimeError: another job holds it.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"The output {folder} is a file. Name a folder.")
    identity = {"rows": names, **asdict(options)}
    del identity["num_workers"]
    place = folder / IDENTITY
    # what a job leaves that was killed before it wrote its identity
    own = (f".{IDENTITY}", f".{RESULTS}")
    others = [path.name for path in folder.iterdir() if not path.name.startswith(own)] if folder.exists() else []
    if others and not place.is_file():
        raise ValueError(f"The output folder {folder} holds other things, first {min(others)}. Name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()  # a run records the folder that it started from
    place = folder / IDENTITY
    lock = OutputLock(folder / RESULTS)
    lock.take()
    try:
        changed = differences(json.loads(place.read_text(encoding="utf-8")), identity) if place.is_file() else []
        if changed:
            name, before, now = changed[0]
            raise ValueError(
                f"{folder} holds results with {name} = {before!r}, and it is {now!r} now. Continue with the same rows and options, "
                "or name a new folder."
            )
        write_json(place, identity)
        yield folder
    finally:
        lock.release(remove=True)


def _run_name(recipe: Recipe) -> str:
    return f"{Path(recipe.name).stem if recipe.name.endswith('.toml') else recipe.name.replace('/', '-')}-seed{recipe.training.seed}-fold{recipe.data['fold']}"


def _digest(content: Any) -> str:
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:24]
