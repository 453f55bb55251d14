"""`kinoclip evaluate`: measure a model on a data set under a named protocol."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .options import (
    Progress,
    UsageError,
    add_chinese_option,
    add_label_options,
    find_launch,
    read_label_options,
    read_names,
)


def add_command(commands: Any) -> None:
    """Declare `kinoclip evaluate` and its options."""
    evaluate = commands.add_parser("evaluate", help="measure a model on labeled videos, as a paper does or better")
    evaluate.add_argument("model", metavar="MODEL", help="folder, hub id, plain CLIP, or mini")
    evaluate.add_argument("--data", required=True, help="folder, list file, or hub data set of labeled videos")
    evaluate.add_argument("--dataset", help="which known data set that is, such as ucf101; found out when left out")
    evaluate.add_argument("--split", help="which part of it (default: all)")
    folds = evaluate.add_mutually_exclusive_group()
    folds.add_argument("--fold", type=int, default=1, help="of UCF-101 and HMDB-51 (default: %(default)s)")
    folds.add_argument("--folds", help="several, such as 1,2,3: the test split of each, their mean and deviation")
    evaluate.add_argument(
        "--protocol", help="how to score (default: that of the recipe the model was trained with, else single_view)"
    )
    evaluate.add_argument(
        "--classes",
        action="append",
        default=[],
        metavar="LIST",
        help="score these classes by themselves too: base, novel, kinetics600/1 to /3, or a file of names; repeatable",
    )
    evaluate.add_argument(
        "--attributes", metavar="FILE", help="phrases for each video, as BIKE's authors publish them"
    )
    evaluate.add_argument("--probe", choices=("linear", "knn"), help="classify frozen features instead; needs --train")
    evaluate.add_argument("--train", metavar="DATA", help="labeled videos for --probe")
    evaluate.add_argument("--train-split", help="which part of them (default: all)")
    add_label_options(evaluate, "what the classes are called, in the order of their ids")
    add_chinese_option(evaluate)
    evaluate.add_argument("--output", metavar="FILE", help="write the whole report, .json")
    evaluate.add_argument("--batch-size", type=int, default=8, help="videos per step (default: %(default)s)")
    evaluate.add_argument("--workers", type=int, default=0, help="processes that decode (default: %(default)s)")
    evaluate.add_argument("--device", default="cpu", help="where to compute, such as cuda (default: %(default)s)")
    evaluate.add_argument("--json", action="store_true", help="print the report as JSON")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from kinoclip.data import load_videos
    from kinoclip.data.samples import class_names
    from kinoclip.evaluation.class_lists import find_class_lists
    from kinoclip.evaluation.evaluate import evaluate
    from kinoclip.evaluation.probing import probe
    from kinoclip.evaluation.protocols import find_protocol
    from kinoclip.inference.loading import load_recognizer
    from kinoclip.text.attributes import read_attributes

    if options.protocol is not None:
        find_protocol(options.protocol)
    if (options.probe is None) != (options.train is None):
        raise UsageError("--probe and --train belong together: give both or neither.")
    folds = _read_folds(options)
    split = "test" if options.folds and options.split is None else options.split
    parts = [load_videos(options.data, split=split, dataset=options.dataset, fold=fold) for fold in folds]
    lists = [find_class_lists(options.classes, class_names(part)) for part in parts]
    accelerator = find_launch(options.device)
    device = options.device if accelerator is None else accelerator.device
    # a plain CLIP gets the attributes branch that needs no training
    model, processor = load_recognizer(options.model, device=device, attributes=options.attributes is not None)
    size = {"batch_size": options.batch_size, "num_workers": options.workers}
    if options.probe is not None:
        splits = {"split": options.train_split, "dataset": options.dataset}
        trains = [load_videos(options.train, fold=fold, **splits) for fold in folds]
        found = [probe(model, processor, *pair, options.probe, **size) for pair in zip(trains, parts, strict=True)]
        _tell_probe(found, options)
        return 0
    is_main = accelerator is None or accelerator.is_main_process
    protocol, selection = _find_record(options, is_main)
    attributes = None
    if options.attributes is not None:
        attributes = read_attributes(options.attributes, getattr(processor, "num_attributes", 1))
    with _held(options.output if is_main else None):
        reports = [
            evaluate(
                model,
                processor,
                part,
                protocol,
                labels=read_label_options(options),
                attributes=attributes,
                chinese=options.chinese_labels,
                class_lists=sets,
                selection=selection,
                name=options.model,
                dataset_name=options.dataset
                or (Path(options.data).name if Path(options.data).exists() else options.data),
                accelerator=accelerator,
                report=Progress(len(part)).add if accelerator is None else None,
                **size,
            )
            for part, sets in zip(parts, lists, strict=True)
        ]
        if is_main:
            _tell(reports, folds, options)
    return 0


def _read_folds(options: argparse.Namespace) -> list[int]:
    if options.folds is None:
        return [options.fold]
    try:
        return [int(fold) for fold in read_names(options.folds)]
    except ValueError as error:
        raise UsageError(f"--folds {options.folds}: give numbers, such as 1,2,3.") from error


def _find_record(options: argparse.Namespace, is_main: bool) -> tuple[str, str]:
    """Return the protocol, and how the record of the training says that the weights were selected."""
    from kinoclip.evaluation.recorded_recipe import recorded_recipe

    rules = (recorded_recipe(options.model) or {}).get("evaluation", {})
    protocol = options.protocol or rules.get("protocol", "single_view")
    if is_main and options.protocol is None and "protocol" in rules:
        print(f"kinoclip: the protocol is that of the model's recipe, {protocol}", file=sys.stderr)
    return protocol, rules.get("selection", "")


def _tell(reports: list[Any], folds: list[int], options: argparse.Namespace) -> None:
    from kinoclip.evaluation.report import as_json, summarize, summary_lines
    from kinoclip.whole_files import write_whole

    for report in reports:
        for name, why in report.failures.items():
            print(f"kinoclip: {name} is in no metric: {why}", file=sys.stderr)
    if options.folds is None:
        content, lines = reports[0].to_json(), reports[0].lines()
    else:
        content = as_json({"folds": [report.to_dict() for report in reports], "summary": summarize(reports)})
        each = [
            f"fold {fold}: {line}" for fold, report in zip(folds, reports, strict=True) for line in report.lines()[:1]
        ]
        lines = [*each, *summary_lines(reports)]
    # first what cannot fail
    print(content if options.json else "\n".join(lines), flush=True)
    if options.output is not None:
        write_whole(Path(options.output), content)


def _tell_probe(found: list[tuple[dict[str, float], dict[str, Any]]], options: argparse.Namespace) -> None:
    from kinoclip.evaluation.report import summarize

    each = [{"probe": options.probe, "metrics": metrics, "intervals": intervals} for metrics, intervals in found]
    summary = summarize([metrics for metrics, _ in found])
    print(json.dumps(each[0] if options.folds is None else {"folds": each, "summary": summary}))


@contextmanager
def _held(output: str | None) -> Iterator[None]:
    """Keep other jobs from a report's file, and tell that it cannot be written before the work, not after it."""
    from kinoclip.inference.output_lock import OutputLock

    if output is None:
        yield
        return
    if Path(output).is_dir():
        raise UsageError(f"--output {output}: that is a folder. Name a file.")
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    lock = OutputLock(Path(output))
    lock.take()
    try:
        yield
    finally:
        lock.release(remove=True)
