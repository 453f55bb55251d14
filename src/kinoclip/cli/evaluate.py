"""`kinoclip evaluate`: measure a model on a data set under a named protocol."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .options import Progress, UsageError, add_label_options, find_launch, read_label_options


def add_command(commands: Any) -> None:
    """Declare `kinoclip evaluate` and its options."""
    evaluate = commands.add_parser("evaluate", help="measure a model on labeled videos, as a paper does or better")
    evaluate.add_argument("model", metavar="MODEL", help="folder, hub id, plain CLIP, or mini")
    evaluate.add_argument("--data", required=True, help="folder, list file, or hub data set of labeled videos")
    evaluate.add_argument("--dataset", help="which known data set that is, such as ucf101; found out when left out")
    evaluate.add_argument("--split", help="which part of it (default: all)")
    evaluate.add_argument("--fold", type=int, default=1, help="of UCF-101 and HMDB-51 (default: %(default)s)")
    evaluate.add_argument("--protocol", default="single_view", help="how to score (default: %(default)s)")
    evaluate.add_argument(
        "--attributes", metavar="FILE", help="phrases for each video, as BIKE's authors publish them"
    )
    evaluate.add_argument("--probe", choices=("linear", "knn"), help="classify frozen features instead; needs --train")
    evaluate.add_argument("--train", metavar="DATA", help="labeled videos for --probe")
    evaluate.add_argument("--train-split", help="which part of them (default: all)")
    add_label_options(evaluate, "what the classes are called, in the order of their ids")
    evaluate.add_argument("--output", metavar="FILE", help="write the whole report, .json")
    evaluate.add_argument("--batch-size", type=int, default=8, help="videos per step (default: %(default)s)")
    evaluate.add_argument("--workers", type=int, default=0, help="processes that decode (default: %(default)s)")
    evaluate.add_argument("--device", default="cpu", help="where to compute, such as cuda (default: %(default)s)")
    evaluate.add_argument("--json", action="store_true", help="print the report as JSON")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from kinoclip.data import load_videos
    from kinoclip.evaluation.evaluate import evaluate
    from kinoclip.evaluation.probing import probe
    from kinoclip.evaluation.protocols import find_protocol
    from kinoclip.inference.loading import load_recognizer
    from kinoclip.text.attributes import read_attributes

    find_protocol(options.protocol)
    if (options.probe is None) != (options.train is None):
        raise UsageError("--probe and --train belong together: give both or neither.")
    dataset = load_videos(options.data, split=options.split, dataset=options.dataset, fold=options.fold)
    accelerator = find_launch(options.device)
    device = options.device if accelerator is None else accelerator.device
    model, processor = load_recognizer(options.model, device=device)
    progress = Progress(len(dataset))
    size = {"batch_size": options.batch_size, "num_workers": options.workers}
    if options.probe is not None:
        train = load_videos(options.train, split=options.train_split, dataset=options.dataset, fold=options.fold)
        metrics, intervals = probe(model, processor, train, dataset, options.probe, **size)
        print(json.dumps({"probe": options.probe, "metrics": metrics, "intervals": intervals}))
        return 0
    is_main = accelerator is None or accelerator.is_main_process
    with _held(options.output if is_main else None):
        report = evaluate(
            model,
            processor,
            dataset,
            options.protocol,
            labels=read_label_options(options),
            attributes=None if options.attributes is None else read_attributes(options.attributes),
            name=options.model,
            dataset_name=options.dataset or (Path(options.data).name if Path(options.data).exists() else options.data),
            accelerator=accelerator,
            report=progress.add if accelerator is None else None,
            **size,
        )
        if is_main:
            _tell(report, options)
    return 0


def _tell(report: Any, options: argparse.Namespace) -> None:
    for name, why in report.failures.items():
        print(f"kinoclip: {name} is in no metric: {why}", file=sys.stderr)
    # first what cannot fail
    print(report.to_json() if options.json else "\n".join(report.lines()), flush=True)
    if options.output is not None:
        report.save(options.output)


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
