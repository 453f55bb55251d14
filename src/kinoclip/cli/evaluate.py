"""`kinoclip evaluate`: measure a model on a data set under a named protocol."""

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from kinoclip.cli import options as shared


def add_commands(commands: Any) -> None:
    """Register the command and its options."""
    evaluate = commands.add_parser("evaluate", help="measure a model on labelled videos by the protocol of a paper")
    add = evaluate.add_argument
    add("model", metavar="MODEL", help="folder, hub id, plain CLIP, or mini")
    add("--data", required=True, help="folder, list file, or hub data set of labelled videos")
    add("--dataset", help="its name if it is a known one, such as ucf101 (default: detected)")
    add("--split", help="part of it (default: all)")
    folds = evaluate.add_mutually_exclusive_group()
    folds.add_argument("--fold", type=int, default=1, help="of UCF-101 and HMDB-51 (default: %(default)s)")
    folds.add_argument("--folds", help="several, such as 1,2,3: the test split of each, their mean and deviation")
    add("--protocol", help="how to score (default: that of the model's recipe, else single_view)")
    classes = "also score these classes: base, novel, kinetics600/1 to /3, or a file of names; repeatable"
    add("--classes", **shared.REPEATABLE, metavar="LIST", help=classes)
    add("--attributes", metavar="FILE", help="phrases for each video, as BIKE's authors publish them")
    add("--probe", choices=("linear", "knn"), help="classify frozen features instead; needs --train")
    add("--train", metavar="DATA", help="labelled videos for --probe")
    add("--train-split", help="part of them (default: all)")
    shared.add_label_options(evaluate, "names of the classes, in the order of their ids")
    shared.add_chinese_option(evaluate)
    shared.add_corpus_option(evaluate)
    curve = "measure the answer for many weights of the branches; use a validation split"
    add("--calibrate-fusion", action="store_true", help=curve)
    add("--save-fusion", action="store_true", help="write the best of these weights into the config of MODEL")
    add("--output", metavar="FILE", help="write the whole report, .json")
    add("--batch-size", type=int, default=8, help="videos per step (default: %(default)s)")
    add("--workers", type=int, default=0, help="processes that decode (default: %(default)s)")
    shared.add_device_options(evaluate)
    shared.add_setting_option(evaluate, "setting of the model other than the saved one, such as rate=4 for SLLM")
    add("--json", action="store_true", help="print the report as JSON")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from kinoclip.data.files import check_source
    from kinoclip.modeling.names import check_model_name

    if (options.probe is None) != (options.train is None):
        raise shared.UsageError("--probe and --train belong together: give both or neither.")
    calibrate = options.calibrate_fusion or options.save_fusion
    if calibrate and (options.folds or options.probe):
        raise shared.UsageError("--calibrate-fusion and --save-fusion go with neither --folds nor --probe.")
    folds, settings, labels = (
        _read_folds(options),
        shared.read_settings(options.set),
        shared.read_label_options(options),
    )
    for source in filter(None, (options.data, options.train)):
        check_source(source)
    check_model_name(options.model)
    from kinoclip.data import load_videos
    from kinoclip.data.coverage import find_mistakes
    from kinoclip.data.samples import class_names
    from kinoclip.evaluation.class_lists import find_class_lists
    from kinoclip.evaluation.evaluate import evaluate
    from kinoclip.evaluation.fusion import read_fusion_config
    from kinoclip.evaluation.protocols import find_protocol
    from kinoclip.evaluation.report import Report
    from kinoclip.inference.backends import load_recognizer
    from kinoclip.methods.auto import name_with_revision
    from kinoclip.storage import check_owned, exclusive
    from kinoclip.text.attributes import read_attributes

    if options.protocol is not None:
        find_protocol(options.protocol)
    if options.save_fusion:
        read_fusion_config(options.model)
    split = "test" if options.folds and options.split is None else options.split
    parts = [load_videos(options.data, split=split, dataset=options.dataset, fold=fold) for fold in folds]
    mistakes = [mistake for part in parts for mistake in find_mistakes(part)]
    lists = [find_class_lists(options.classes, class_names(part)) for part in parts]
    accelerator = shared.find_launch(options.device)
    device = options.device if accelerator is None else accelerator.device
    is_main = accelerator is None or accelerator.is_main_process
    for mistake in mistakes if is_main else ():
        shared.notify(mistake)
    # a plain CLIP gets the attributes branch that needs no training
    corpora = shared.read_corpora(options)
    with_attributes = options.attributes is not None
    placed = {"device": device, "dtype": options.dtype}
    model, processor = load_recognizer(
        options.model, attributes=with_attributes, settings=settings, corpus=corpora, **placed
    )
    size = {"batch_size": options.batch_size, "num_workers": options.workers}
    if options.probe is not None:
        _probe(model, processor, parts, folds, options, size)
        return 0
    protocol, selection = _find_protocol(options, is_main)
    attributes = None
    if options.attributes is not None:
        attributes = read_attributes(options.attributes, processor.num_attributes)
    is_written = is_main and options.output is not None
    if is_written and Path(options.output).is_dir():
        raise shared.UsageError(f"--output must be a file, but {options.output} is a folder.")
    if is_written:
        check_owned(options.output, Report.is_report)
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    with exclusive(options.output) if is_written else nullcontext():  # fails now rather than after the work
        reports = [
            evaluate(
                model,
                processor,
                part,
                protocol,
                labels=labels,
                attributes=attributes,
                chinese=options.chinese_labels,
                class_lists=sets,
                selection=selection,
                name=name_with_revision(options.model),
                dataset_name=options.dataset
                or (Path(options.data).name if Path(options.data).exists() else options.data),
                accelerator=accelerator,
                report=shared.Progress(len(part)).add if accelerator is None else None,
                calibrate=calibrate,
                **size,
            )
            for part, sets in zip(parts, lists, strict=True)
        ]
        changes = {"corpus": corpora and list(corpora), "model": settings}
        for each in reports:
            each.settings.update({name: value for name, value in changes.items() if value})
        if is_main:
            _report(reports, folds, options)
    if is_main and calibrate:
        _finish_calibration(reports[0].settings["fusion"]["best"], options)
    return 0


def _finish_calibration(best: dict[str, Any], options: argparse.Namespace) -> None:
    """Warn where weights were chosen on test videos, and write them if that is requested."""
    from kinoclip.data.files import split_name
    from kinoclip.evaluation.fusion import save_fusion

    if split_name(options.split or "test") == "test":
        part = "the test split" if options.split else "all videos, which may include those of the test"
        shared.notify(f"the weights were chosen on {part}: the value there is no test result. Use --split validation")
    if options.save_fusion:
        path = save_fusion(options.model, best["weights"])
        shared.notify(f"{path} has the weights {best['weights']}")


def _read_folds(options: argparse.Namespace) -> list[int]:
    if options.folds is None:
        return [options.fold]
    try:
        return [int(fold) for fold in shared.read_names(options.folds)]
    except ValueError as error:
        raise shared.UsageError(
            f"--folds must be comma-separated numbers such as 1,2,3, got {options.folds}."
        ) from error


def _find_protocol(options: argparse.Namespace, is_main: bool) -> tuple[str, str]:
    """Return the protocol, and how the weights were selected, by the record of the training."""
    from kinoclip.evaluation.protocols import recorded_recipe

    rules = (recorded_recipe(options.model) or {}).get("evaluation", {})
    protocol = options.protocol or rules.get("protocol", "single_view")
    if is_main and options.protocol is None and "protocol" in rules:
        shared.notify(f"the protocol is that of the model's recipe, {protocol}")
    return protocol, rules.get("selection", "")


def _report(reports: list[Any], folds: list[int], options: argparse.Namespace) -> None:
    from kinoclip.evaluation.report import Report, summarize, summary_lines
    from kinoclip.storage import encode_json, write_text

    for report in reports:
        for name, why in report.failures.items():
            shared.notify(f"{name} is in no metric: {why}")
    if options.folds is None:
        content, lines = reports[0].to_dict(), reports[0].lines()
    else:
        content = {"folds": [report.to_dict() for report in reports], "summary": summarize(reports)}
        first = [report.lines()[0] for report in reports]
        lines = [f"fold {fold}: {line}" for fold, line in zip(folds, first, strict=True)] + summary_lines(reports)
    if options.json:  # before the file, which may fail
        shared.show_json(content, indent=1)
    else:
        shared.show(*lines)
    if options.output is not None:
        write_text(options.output, encode_json(content, indent=1), owns=Report.is_report)


def _probe(
    model: Any, processor: Any, parts: list[Any], folds: list[int], options: argparse.Namespace, size: dict[str, Any]
) -> None:
    from kinoclip.data import load_videos
    from kinoclip.evaluation.probe import probe
    from kinoclip.evaluation.report import summarize

    splits = {"split": options.train_split, "dataset": options.dataset}
    trains = [load_videos(options.train, fold=fold, **splits) for fold in folds]
    found = [probe(model, processor, *pair, options.probe, **size) for pair in zip(trains, parts, strict=True)]
    each = [{"probe": options.probe, "metrics": metrics, "intervals": intervals} for metrics, intervals in found]
    summary = summarize([metrics for metrics, _ in found])
    shared.show_json(each[0] if options.folds is None else {"folds": each, "summary": summary})
