"""Train every method on KinoShapes and write RESULTS.md: python examples/kinoshapes/run.py [--jobs 2].

Each recipe `benchmark/*` is trained from the embedded CLIP and measured on clips and classes it has not seen. What is done already
is kept, so the command can be stopped and run again. `--clips 640 --device cuda` is the larger setting for a GPU.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from measures import agree_with_spans, compare_restored, describe_videos, measure_groups, measure_speed
from render import render

from kinoclip.data.kinoshapes import BACKGROUNDS, OBJECTS, VERBS
from kinoclip.data.kinoshapes.benchmark import CLIPS_PER_CLASS, action_classes, benchmark_dataset, chinese_names
from kinoclip.data.splits import few_shot
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.inference.loading import load_recognizer
from kinoclip.inference.profile import profile
from kinoclip.text.entities import Entity, save_corpus
from kinoclip.training.loop import train
from kinoclip.training.mini_clip.chinese import train_chinese
from kinoclip.training.recipe import Recipe, load_recipe, recipe_names
from kinoclip.whole_files import whole_folder, write_whole

HERE = Path(__file__).parent
UNTRAINED = "clip"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="folder of RESULTS.md and results.json")
    parser.add_argument("--work", type=Path, default=Path("kinoshapes_work"), help="folder of the models")
    parser.add_argument("--jobs", type=int, default=2, help="recipes at a time, one thread each")
    parser.add_argument("--only", nargs="+", help="recipes to run anew, such as bike alt-r0 (default: all)")
    parser.add_argument("--clips", type=int, default=CLIPS_PER_CLASS["train"], help="training clips of each class")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    names = [name.partition("/")[2] for name in recipe_names() if name.startswith("benchmark/")]
    names = [UNTRAINED, *names] if options.only is None else options.only
    options.work.mkdir(parents=True, exist_ok=True)
    write_texts(options.work)
    waiting = [name for name in names if not result_file(options.work, name).exists()]
    job = partial(run_recipe, options.work, options.clips, options.device)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(job, name): name for name in waiting}
        for done in as_completed(jobs):
            print(f"{jobs[done]}: {json.dumps(done.result()['groups'])}", flush=True)
    settings = {"clips_per_class": options.clips, "torch": torch.__version__, "device": options.device}
    rows = {name: json.loads(result_file(options.work, name).read_text()) for name in names}
    if options.only is None:
        speeds = measure_speed({name: options.work / name for name in names if name != UNTRAINED}, options.device)
        for name, speed in speeds.items():
            rows[name]["videos_per_second"] = speed
    else:
        rows = replace_rows(options.output / "results.json", settings, rows)
    content = {"settings": settings, "rows": rows}
    write_whole(options.output / "results.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_whole(options.output / "RESULTS.md", render(content))


def replace_rows(results: Path, settings: dict[str, Any], rows: dict[str, Any]) -> dict[str, Any]:
    """Put new rows in the place of the old; speeds, which need one interleaved run of all, stay."""
    if not results.exists():
        return rows
    old = json.loads(results.read_text())
    if old["settings"] != settings:
        raise SystemExit(f"{results} was made with {old['settings']}, not {settings}. Run all rows, without --only.")
    for name, row in rows.items():
        speed = old["rows"].get(name, {}).get("videos_per_second")
        old["rows"][name] = row if speed is None else {**row, "videos_per_second": speed}
    return old["rows"]


def result_file(work: Path, name: str) -> Path:
    return work / f"{name}.json"


def write_texts(work: Path) -> None:
    """Write what some recipes read beside labels: ALT's corpus, Chinese names and the tower that reads them."""
    if not (work / "chinese_clip").exists():
        with whole_folder(work / "chinese_clip") as partial:
            train_chinese(partial)
    write_whole(work / "chinese.json", json.dumps(chinese_names() | chinese_names("unseen"), ensure_ascii=False))
    entities = [
        *(Entity(name, f"a {name}", "object", "kinoshapes") for name in OBJECTS),
        *(Entity(name, f"a shape {name}", "motion", "kinoshapes") for name in VERBS),
        *(Entity(f"{name} background", f"a {name} background", "scene", "kinoshapes") for name in BACKGROUNDS),
    ]
    save_corpus(work / "corpus.jsonl", entities)


def name_texts(recipe: Recipe, work: Path) -> dict[str, str]:
    """Give the settings that name what `write_texts` wrote, as far as a recipe reads it."""
    texts = {}
    if recipe.method == "alt" and recipe.model.get("query_source") != "learned":
        texts["data.corpus"] = str(work / "corpus.jsonl")
    if recipe.model.get("chinese_branch"):
        texts["data.chinese_labels"] = str(work / "chinese.json")
        texts["data.chinese_clip"] = str(work / "chinese_clip")
    return texts


def run_recipe(work: Path, clips: int, device: str, name: str) -> dict[str, Any]:
    """Train and measure one recipe, and keep what was found."""
    torch.set_num_threads(1)
    started = time.monotonic()
    if name == UNTRAINED:
        model, processor = load_recognizer("mini", device=device, attributes=True)
        row: dict[str, Any] = {"title": "CLIP as it is: the mean of the frames", "method": "clip"}
    else:
        recipe = load_recipe(f"benchmark/{name}")
        recipe = recipe.with_settings(name_texts(recipe, work))
        task = "several" if name.endswith("several") else "actions"
        dataset = benchmark_dataset(task, "train", clips_per_class=clips)
        if recipe.data["shots"]:
            dataset = few_shot(dataset, recipe.data["shots"], recipe.training.seed)
        train(recipe, dataset, work / name, resume=(work / name).exists())
        row = {"title": recipe.title, "method": recipe.method, "minutes": (time.monotonic() - started) / 60}
        model, processor = load_recognizer(work / name, device=device)
    row |= measure(name, model, processor)
    write_whole(result_file(work, name), json.dumps(row, ensure_ascii=False))
    return row


def measure(name: str, model: Any, processor: Any) -> dict[str, Any]:
    """Measure a model on unseen clips of its classes, and, where it reads text, on classes that it has never seen."""
    counted = profile(model.config)
    row: dict[str, Any] = {"parameters": counted.parameters, "trainable": counted.trainable_parameters}
    row |= {"gmacs": counted.gmacs, "groups": {}}
    if name == UNTRAINED or name.endswith("several"):
        report = evaluate(model, processor, benchmark_dataset("several", "test"))
        row["several_map"] = report.metrics["map"]
    if name.endswith("several"):
        return row
    test = benchmark_dataset("actions", "test")
    report = evaluate(model, processor, test)
    row["groups"] = measure_groups(report, action_classes())
    row["interval"] = report.intervals["top1"]
    if model.config.reads_text:
        unseen = evaluate(model, processor, benchmark_dataset("unseen", "test"))
        row["unseen"] = measure_groups(unseen, action_classes("unseen"))
    if name in (UNTRAINED, "bike"):
        branch = load_recognizer("mini", attributes=True) if name == UNTRAINED else with_attributes(model, processor)
        fused = evaluate(*branch, test, attributes=describe_videos(test, [*OBJECTS, *VERBS]))
        row["with_attributes"] = measure_groups(fused, action_classes())
    if name.startswith("bike"):
        row["saliency"] = agree_with_spans(model, processor, benchmark_dataset("untrimmed", "test"))
    if model.config.model_type == "kinoclip_sllm" and model.restorer is not None:
        row["restored_cosine"] = compare_restored(model, processor, test)
    return row


def with_attributes(model: Any, processor: Any) -> tuple[Any, Any]:
    """Give a trained BIKE the attributes branch that needs no training, three tenths of the vote."""
    fields = {"attributes": "shared", "attribute_head": "none", "fusion": {"video": 0.7, "attributes": 0.3}}
    config = type(model.config)(**{**model.config.to_dict(), **fields})
    fused = type(model)(config).eval()
    fused.load_state_dict(model.state_dict(), strict=False)
    return fused.to(model.device), processor


if __name__ == "__main__":
    main()
