"""`kinoclip classify`: name the actions in videos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .options import Progress, UsageError, add_label_options, print_record, read_label_options


def add_command(commands: Any) -> None:
    """Declare `kinoclip classify` and its options."""
    classify = commands.add_parser("classify", help="name the actions in videos, with your own labels")
    classify.add_argument("paths", nargs="+", metavar="PATH", help="video files, folders or http(s) URLs")
    add_label_options(classify, "names to choose from")
    classify.add_argument("--model", default="mini", help="folder, hub id, plain CLIP, or mini (default: %(default)s)")
    classify.add_argument("--output", help="file for the records, .jsonl or .csv; standard output when left out")
    classify.add_argument("--top-k", type=int, default=5, help="labels per video (default: %(default)s)")
    classify.add_argument("--explain", action="store_true", help="add why: what each frame counted, and more")
    classify.add_argument("--pictures", metavar="DIR", help="folder for a picture of each video with the reasons")
    classify.add_argument("--spans", action="store_true", help="long videos: which labels from when to when")
    classify.add_argument("--background", help="with --spans: names of what is no action of interest, with commas")
    classify.add_argument("--threshold", type=float, default=0.5, help="with --spans (default: %(default)s)")
    classify.add_argument(
        "--fps", type=float, default=4.0, help="with --spans: looks per second (default: %(default)s)"
    )
    classify.add_argument("--min-seconds", type=float, default=0.0, help="with --spans: leave out shorter ones")
    classify.add_argument("--descriptions", help="a sentence for each label: .json, .csv, or a set: kinetics400, ...")
    classify.add_argument(
        "--chinese-labels", metavar="FILE", help="Chinese names of the labels, for a Chinese branch: .json, or a set"
    )
    classify.add_argument("--lexicon", help="phrases for BIKE's attributes branch: a file as above, or kinetics400")
    classify.add_argument("--lexicon-clip", metavar="CLIP", help="plain CLIP that finds them (default: the model)")
    classify.add_argument("--frames", type=int, help="frames per video, if not the model's own number")
    classify.add_argument("--device", default="cpu", help="where to compute, such as cuda (default: %(default)s)")
    classify.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    classify.set_defaults(run=_classify)


def _classify(options: argparse.Namespace) -> int:
    from kinoclip.inference.classify import Classifier
    from kinoclip.inference.jobs import Job, RecordFile, find_videos

    labels = read_label_options(options)
    if options.top_k < 1:
        raise UsageError(f"--top-k {options.top_k}: ask for at least one label.")
    videos = find_videos(options.paths)
    classifier = _load_classifier(Classifier, options)
    pictures = None if options.pictures is None else Path(options.pictures)
    job: Any
    if options.spans:
        job, top_k = _span_job(classifier, labels, options), 0
    else:
        job = Job(classifier, labels, options.top_k, options.explain, pictures)
        top_k = min(options.top_k, len(classifier.set_labels(labels)))
    if options.output is None:
        progress = Progress(len(videos))
        for record in job.label(videos, progress):
            print_record(record)
        return progress.exit_code
    with RecordFile(options.output, job.identity, top_k) as records:
        waiting = [video for video in videos if video not in records.done]
        if len(waiting) < len(videos):
            print(f"kinoclip: {len(videos) - len(waiting)} of {len(videos)} are done already", file=sys.stderr)
        progress = Progress(len(waiting))
        for record in job.label(waiting, progress):
            records.write(record)
    return progress.exit_code


def _span_job(classifier: Any, labels: tuple[str, ...] | None, options: argparse.Namespace) -> Any:
    from kinoclip.inference.span_job import SpanJob

    if options.explain or options.pictures or options.lexicon:
        raise UsageError("--spans goes without --explain, --pictures and --lexicon.")
    if not 0 <= options.threshold <= 1:
        raise UsageError(f"--threshold {options.threshold}: it is a probability, from 0 to 1.")
    if not 0 < options.fps < float("inf") or options.min_seconds < 0:
        raise UsageError("--fps is above 0, and --min-seconds not below 0.")
    background = tuple(name.strip() for name in (options.background or "").split(",") if name.strip())
    if background and labels is None:
        raise UsageError("--background competes with labels: give --labels too.")
    classifier.set_labels(None if labels is None else (*labels, *background))
    return SpanJob(classifier, labels, background, options.threshold, options.fps, options.min_seconds)


def _read_descriptions(source: str | None) -> dict[str, str] | None:
    from kinoclip.text.descriptions import label_descriptions, read_descriptions
    from kinoclip.text.labels import LABEL_SETS

    if source is None:
        return None
    return label_descriptions(source) if source in LABEL_SETS else read_descriptions(source)


def _load_classifier(classifier_class: Any, options: argparse.Namespace) -> Any:
    import torch

    if options.model == "mini":
        print(
            "kinoclip: the embedded model knows colored shapes only; give --model for your own videos, "
            "such as --model openai/clip-vit-base-patch32",
            file=sys.stderr,
        )
    try:
        device = torch.device(options.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {options.device}: {str(error).splitlines()[0]}") from error
    if options.lexicon_clip is not None and options.lexicon is None:
        raise UsageError("--lexicon-clip needs the phrases: give --lexicon.")
    classifier = classifier_class.load(
        options.model,
        lexicon=options.lexicon,
        lexicon_clip=options.lexicon_clip,
        descriptions=_read_descriptions(options.descriptions),
        chinese=options.chinese_labels,
        device=device,
        dtype=getattr(torch, options.dtype),
    )
    if options.frames is not None:
        if options.frames < 1:
            raise UsageError(f"--frames {options.frames}: look at one frame at least.")
        classifier.video_processor.num_frames = options.frames
    return classifier
