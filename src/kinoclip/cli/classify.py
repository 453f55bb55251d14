"""`kinoclip classify`: name the actions in videos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .options import (
    Progress,
    UsageError,
    add_chinese_option,
    add_label_options,
    add_model_options,
    find_launch,
    print_record,
    read_label_options,
    read_model_options,
    read_names,
)


def add_command(commands: Any) -> None:
    """Declare `kinoclip classify` and its options."""
    classify = commands.add_parser("classify", help="name the actions in videos, with your own labels")
    classify.add_argument("paths", nargs="+", metavar="PATH", help="video files, folders or http(s) URLs")
    add_label_options(classify, "names to choose from")
    classify.add_argument(
        "--output",
        metavar="FILE",
        help="file for the records, .jsonl, .csv or .parquet; the same command continues it; standard output when left out",
    )
    classify.add_argument(
        "--retry", action="store_true", help="with --output: try videos again that could not be read before"
    )
    classify.add_argument("--top-k", type=int, default=5, help="labels per video (default: %(default)s)")
    classify.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="answer `none of these` where the best label has a probability below P, with --spans no label. The names that "
        "are given share the probability out among them, so it says which of them fits best, and not that one fits: give "
        "a --background too, and choose P on videos that you know (default: 0, with --spans 0.5)",
    )
    classify.add_argument(
        "--background",
        metavar="NAMES",
        help="names of what is no action of interest, with commas: they compete with the labels, and a video that they fit "
        "best is `none of these`",
    )
    classify.add_argument("--explain", action="store_true", help="add why: what each frame counted, and more")
    classify.add_argument("--pictures", metavar="DIR", help="folder for a picture of each video with the reasons")
    classify.add_argument(
        "--picture-format",
        default="png",
        choices=("png", "gif", "mp4", "html", "json"),
        help="what --pictures writes: a picture, a film, a page that needs no other file, or data (default: %(default)s)",
    )
    classify.add_argument("--spans", action="store_true", help="long videos: which labels from when to when")
    classify.add_argument(
        "--fps", type=float, default=4.0, help="with --spans: looks per second (default: %(default)s)"
    )
    classify.add_argument("--min-seconds", type=float, default=0.0, help="with --spans: leave out shorter ones")
    classify.add_argument("--descriptions", help="a sentence for each label: .json, .csv, or a set: kinetics400, ...")
    add_chinese_option(classify)
    classify.add_argument("--lexicon", help="phrases for BIKE's attributes branch: a file as above, or kinetics400")
    classify.add_argument(
        "--lexicon-clip", metavar="CLIP", help="plain CLIP that finds them, at its own size (default: the model)"
    )
    add_model_options(classify)
    classify.set_defaults(run=_classify)


def _classify(options: argparse.Namespace) -> int:
    from kinoclip.inference.jobs import find_videos, leave_out

    _check_options(options)
    labels = read_label_options(options)
    videos = leave_out(find_videos(options.paths), [options.output, options.features, options.pictures])
    if not videos:
        print("kinoclip: there is no file in what was given, so there is nothing to label", file=sys.stderr)
    launch = find_launch(options.device)
    if launch is not None and options.output is None:
        raise UsageError("Several processes need a file for their records: give --output.")
    classifier = _load_classifier(options, launch)
    job = (_span_job if options.spans else _plain_job)(classifier, labels, options)
    if options.output is not None:
        return _write_records(job, videos, options, launch)
    progress = Progress(len(videos))
    for record in job.label(videos, progress):
        print_record(record)
    return progress.exit_code


def _write_records(job: Any, videos: list[str], options: argparse.Namespace, launch: Any) -> int:
    from kinoclip.inference.record_output import RecordOutput

    top_k = 0 if options.spans else min(options.top_k, len(job.set_labels()))
    share = {} if launch is None else {"process": launch.process_index, "processes": launch.num_processes}
    wait = {} if launch is None else {"wait": launch.wait_for_everyone}
    with RecordOutput(options.output, job.identity, top_k, **share, **wait, retry=options.retry) as output:
        done = sum(video in output for video in videos)
        shown = launch is None or launch.is_main_process
        if done and shown:
            print(f"kinoclip: {done} of {len(videos)} are done already", file=sys.stderr)
        mine = [video for batch in job.share_out(videos, **share) for video in batch]
        place = "" if launch is None else f" of process 1 of {launch.num_processes}"
        progress = Progress(sum(video not in output for video in mine), place, shown)
        for record in job.label(videos, progress, done=output, **share):
            output.write(record)
        output.finish(videos)
    return progress.exit_code


def _check_options(options: argparse.Namespace) -> None:
    if options.top_k < 1:
        raise UsageError(f"--top-k {options.top_k}: ask for at least one label.")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise UsageError(f"--threshold {options.threshold}: it is a probability, from 0 to 1.")
    if options.retry and options.output is None:
        raise UsageError("--retry continues a file of records: give --output.")
    if options.background and not (options.labels or options.labels_file):
        raise UsageError("--background competes with labels: give --labels too.")
    if options.lexicon_clip is not None and options.lexicon is None:
        raise UsageError("--lexicon-clip needs the phrases: give --lexicon.")
    if options.spans and (options.explain or options.pictures or options.lexicon or options.features):
        raise UsageError("--spans goes without --explain, --pictures, --lexicon and --features.")
    if options.features and (options.explain or options.pictures or options.lexicon):
        raise UsageError("--explain, --pictures and --lexicon look at the frames themselves: leave --features out.")
    if not 0 < options.fps < float("inf") or options.min_seconds < 0:
        raise UsageError("--fps is above 0, and --min-seconds not below 0.")


def _plain_job(classifier: Any, labels: tuple[str, ...] | None, options: argparse.Namespace) -> Any:
    from kinoclip.inference.jobs import Job

    features = None
    if options.features is not None:
        features = classifier.keep_features(options.features)
    job = Job(
        classifier,
        labels,
        options.top_k,
        options.explain,
        None if options.pictures is None else Path(options.pictures),
        options.picture_format,
        threshold=options.threshold or 0.0,
        background=read_names(options.background),
        batch_size=options.batch_size,
        features=features,
        read_seconds=options.timeout,
    )
    job.set_labels()
    return job


def _span_job(classifier: Any, labels: tuple[str, ...] | None, options: argparse.Namespace) -> Any:
    from kinoclip.inference.span_job import SpanJob

    threshold = 0.5 if options.threshold is None else options.threshold
    background = read_names(options.background)
    classifier.set_labels(None if labels is None else (*labels, *background))
    return SpanJob(classifier, labels, background, threshold, options.fps, options.min_seconds)


def _load_classifier(options: argparse.Namespace, launch: Any) -> Any:
    from kinoclip.inference.classify import Classifier

    classifier = Classifier.load(
        options.model,
        lexicon=options.lexicon,
        lexicon_clip=options.lexicon_clip,
        descriptions=_read_descriptions(options.descriptions),
        chinese=options.chinese_labels,
        **read_model_options(options, launch),
    )
    if options.frames is not None:
        finder = [] if classifier.attributes is None else [classifier.attributes.processor.video_processor]
        for videos in (classifier.video_processor, *finder):
            videos.num_frames = options.frames
    return classifier


def _read_descriptions(source: str | None) -> dict[str, str] | None:
    from kinoclip.text.descriptions import label_descriptions, read_descriptions
    from kinoclip.text.labels import LABEL_SETS

    if source is None:
        return None
    return label_descriptions(source) if source in LABEL_SETS else read_descriptions(source)
