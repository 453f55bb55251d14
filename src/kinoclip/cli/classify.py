"""`kinoclip classify`: name the actions in videos."""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from kinoclip.addresses import is_address, working_copy
from kinoclip.cli import options as shared


def add_commands(commands: Any) -> None:
    """Register the command and its options."""
    classify = commands.add_parser("classify", help="name the actions in videos, with your own labels")
    add = classify.add_argument
    shared.add_path_argument(classify, "*")
    add(
        "--videos-file",
        metavar="FILE",
        help="more videos: a text with one per line, or a .parquet with a column video",
    )
    shared.add_label_options(classify, "names to choose from")
    output = "records, .jsonl, .csv or .parquet, a file or address; the same command continues them (default: standard output)"
    add("--output", metavar="FILE", help=output)
    add(
        "--on",
        choices=("ray",),
        help="run on a Ray cluster, that of RAY_ADDRESS; --output is a folder or address then",
    )
    add("--workers", type=int, metavar="N", help="with --on: models in memory (default: one per GPU, or per machine)")
    add("--shard-size", type=int, metavar="N", help="with --on: videos per file of records (default: 256)")
    retry = "with --output: label again what could not be read, or what has changed: videos, model, labels or options"
    shared.add_job_options(classify, retry)
    add("--top-k", type=int, default=5, help="labels per video (default: %(default)s)")
    threshold = "lowest probability; below it the answer is `none of these` (default: 0, with --spans 0.5)"
    add("--threshold", type=float, metavar="P", help=threshold)
    background = "comma-separated names that compete with the labels and whose answer is `none of these`"
    add("--background", metavar="NAMES", help=background)
    add("--explain", action="store_true", help="add an explanation: the saliency of each frame, and more")
    add("--pictures", metavar="DIR", help="folder for a picture of the explanation of each video")
    add("--picture-format", default="png", help="of --pictures: png, html or json (default: %(default)s)")
    add("--spans", action="store_true", help="for long videos: which labels, with start and end")
    add("--fps", type=float, default=4.0, help="with --spans: frames per second (default: %(default)s)")
    add("--min-seconds", type=float, default=0.0, help="with --spans: leave out shorter ones")
    add("--descriptions", help="a sentence for each label: .json, .csv, or a set: kinetics400, ...")
    shared.add_chinese_option(classify)
    shared.add_corpus_option(classify)
    add("--lexicon", help="phrases for BIKE's attributes branch, see kinoclip attributes")
    add("--lexicon-clip", metavar="CLIP", help="plain CLIP that finds the phrases (default: the model)")
    clips = "clips per video, whose answers are averaged (default: that of the model)"
    add("--clips", type=int, metavar="N", help=clips)
    budget = "the most accurate measured setting within a time per video (50ms), a time for the job (20min, 3h), or a share of"
    add("--budget", help=f"{budget} the full cost (0.25); see kinoclip profile --measure")
    shared.add_model_options(classify)
    classify.set_defaults(run=_classify)


def _classify(options: argparse.Namespace) -> int:
    _check_options(options)
    labels = shared.read_label_options(options)
    from kinoclip.data.files import read_video_list

    paths = options.paths + ([] if options.videos_file is None else read_video_list(options.videos_file))
    videos = shared.find_videos(paths, [options.output, options.features, options.pictures])
    if options.isolate is None:
        options.isolate = len(videos) >= shared.ISOLATED_FROM and not options.spans
    if options.on is not None:
        return _run_on_ray(options, labels, videos)
    if options.isolate:
        from kinoclip.video.isolation import start_server

        start_server()  # it imports torch while this process does, and loads the model
    launch = shared.find_launch(options.device)
    if launch is not None and is_address(options.output):
        raise shared.UsageError(
            "Several processes need a file of this machine as --output. Use --on ray for an address."
        )
    with working_copy(options.output) as options.output:
        return _run_here(options, labels, videos, launch)


def _run_here(options: argparse.Namespace, labels: tuple[str, ...] | None, videos: list[str], launch: Any) -> int:
    if launch is not None and options.output is None:
        raise shared.UsageError("Several processes need a file for their records: give --output.")
    chosen = None if options.budget is None else _choose_setting(options, videos)
    job = _build_job(options, labels, launch)
    process = {} if launch is None else {"process": launch.process_index, "processes": launch.num_processes}
    plan = job.plan(videos, **process)
    with nullcontext() if chosen is None else _compare_time(*chosen, job, options.model):
        return _write(options, job, plan, launch)


def _write(options: argparse.Namespace, job: Any, plan: Any, launch: Any) -> int:
    if options.output is not None:
        top_k = 0 if options.spans else min(options.top_k, len(plan.labels))
        return shared.write_records(job, plan, options.output, launch, top_k=top_k, retry=options.retry)
    progress = shared.Progress(len(plan.videos))
    for record in job.label(plan):
        shared.show_json(record)
        progress(record)
    return progress.exit_code


def _run_on_ray(options: argparse.Namespace, labels: tuple[str, ...] | None, videos: list[str]) -> int:
    shared.check_model_options(options)
    from kinoclip.inference.ray_job import SHARD_SIZE, RayJob

    job = RayJob(
        partial(_build_on, options, labels),
        options.output,
        options.device if options.backend == "torch" else "cpu",
        1 if options.spans else options.batch_size,
        options.shard_size or SHARD_SIZE,
        options.workers,
        0 if options.spans else options.top_k,
        options.retry,
    )
    progress = shared.Progress(len(videos))
    for shard in job.run(videos):
        progress.failed += shard["failed"]
        progress.add(shard["videos"])
    return progress.exit_code


def _check_options(options: argparse.Namespace) -> None:
    shared.check_least(options, top_k=1, clips=1, workers=1, shard_size=1)
    shared.check_rate(options)
    threshold, picture = options.threshold, options.picture_format
    needs_frames = options.explain or options.pictures or options.lexicon
    no_spans = needs_frames or options.features
    no_labels = not (options.labels or options.labels_file)
    chosen = options.frames or options.clips or options.set or options.dtype != "auto" or options.backend != "torch"
    chosen = chosen or options.compile
    if options.budget is not None:
        from kinoclip.inference.budget import Budget

        Budget.parse(options.budget)
        shared.refuse_distributed("classify --budget")
    if options.on is not None:
        shared.refuse_distributed("classify --on ray")
    for is_wrong, message in (
        (not 0 <= (threshold or 0) <= 1, f"--threshold must be a probability from 0 to 1, got {threshold}."),
        (not options.paths and not options.videos_file, "Name videos, or folders of videos."),
        (options.on and not options.output, "--on ray needs a folder or address for its records: give --output."),
        (options.on and options.budget, "--budget cannot be used with --on."),
        (
            options.on and options.device not in ("auto", "cpu", "cuda"),
            f"--device must be auto, cpu or cuda with --on, got {options.device}.",
        ),
        (options.workers and not options.on, "--workers belongs to --on."),
        (options.shard_size and not options.on, "--shard-size belongs to --on."),
        (options.retry and not options.output, "--retry continues a file of records: give --output."),
        (options.background and no_labels, "--background competes with labels: give --labels too."),
        (options.chinese_labels and no_labels, "--second-labels belong to labels: give --labels too."),
        (options.lexicon_clip and not options.lexicon, "--lexicon-clip needs phrases: give --lexicon."),
        (picture not in ("png", "html", "json"), f"--picture-format must be png, html or json, got {picture}."),
        (options.spans and no_spans, "--spans cannot be used with --explain, --pictures, --lexicon and --features."),
        (options.features and needs_frames, "--explain, --pictures and --lexicon cannot be used with --features."),
        (options.isolate and options.spans, "--isolate cannot be used with --spans."),
        (
            options.budget and (options.spans or no_spans),
            "--budget cannot be used with --spans, --explain, --pictures, --lexicon and --features, which cost more or less.",
        ),
        (
            options.budget and chosen,
            "--budget chooses --frames, --clips, --set, --dtype and --backend, without --compile: leave them out.",
        ),
        (options.clips and options.spans, "--clips cannot be used with --spans."),
    ):
        if is_wrong:
            raise shared.UsageError(message)


def _choose_setting(options: argparse.Namespace, videos: list[str]) -> tuple[Any, int]:
    """Set the options of the most accurate setting within --budget; return it and the number of videos that are left.

    A budget for a whole job depends on what is left of it, so a job that is continued keeps the setting of its records.
    """
    from kinoclip.inference.budget import Budget, format_time, read_curve

    budget, curve = Budget.parse(options.budget), read_curve(options.model)
    records: dict[str, Any] = {}
    if options.output is not None and options.retry != "changed":
        from kinoclip.inference.record_output import RecordOutput

        records = RecordOutput(options.output, "").read()
    done = {video for video, record in records.items() if not (options.retry and "error" in record)}
    left = len(set(videos) - done)
    job = next((record["job"] for record in records.values()), "")
    kept = next((point for point in curve.points if budget.is_of_job and job.startswith(point.job)), None)
    point = kept or curve.choose(budget.seconds_per_video(curve.points[0].seconds, left))
    setting = point.setting
    options.set = [f"{name}={value}" for name, value in setting.fields.items()]
    for name in ("frames", "clips", "dtype", "backend"):
        setattr(options, name, getattr(setting, name))
    measured = f"{curve.metric} {point.accuracy:.2%} of {curve.data['videos']} videos of {curve.data['source']}"
    expected = f"{format_time(point.seconds)} per video, {format_time(point.seconds * left)} for {left} videos"
    shared.notify(f"--budget {options.budget}: {'continues with ' if kept else ''}{setting}: {measured}; {expected}")
    return point, left


@contextmanager
def _compare_time(point: Any, left: int, job: Any, model: str) -> Iterator[None]:
    """Check that a chosen setting is the one that was measured, and report the time that the job took."""
    from kinoclip.inference.budget import curve_path, format_time
    from kinoclip.inference.records import compare_jobs

    if changed := compare_jobs(point.job, job.identity):
        raise shared.UsageError(
            f"{curve_path(model)} was measured with {changed}. Measure again: kinoclip profile {model} --data VALIDATION "
            "--measure; or leave --budget out."
        )
    start = time.perf_counter()
    yield
    if left:
        seconds = (time.perf_counter() - start) / left
        difference = seconds / point.seconds - 1
        shared.notify(f"took {format_time(seconds)} per video, {difference:+.1%} compared with the expected time")


def _build_job(options: argparse.Namespace, labels: tuple[str, ...] | None, launch: Any) -> Any:
    names = {"lexicon": options.lexicon, "lexicon_clip": options.lexicon_clip, "chinese": options.chinese_labels}
    classifier = shared.load_classifier(
        options,
        launch,
        descriptions=_read_descriptions(options.descriptions),
        corpus=shared.read_corpora(options),
        **names,
    )
    from kinoclip.inference.batch_job import ClassifyJob, SpanJob  # it imports torch, after the checks

    if options.clips is not None:
        classifier.video_processor.num_clips = options.clips
    common = (classifier, labels, shared.read_names(options.background))
    if options.spans:
        threshold = 0.5 if options.threshold is None else options.threshold
        return SpanJob(
            *common, threshold, frames_per_second=options.fps, min_seconds=options.min_seconds, digest=options.digest
        )
    return ClassifyJob(
        *common,
        options.threshold or 0.0,
        options.batch_size,
        options.top_k,
        options.explain,
        None if options.pictures is None else Path(options.pictures),
        options.picture_format,
        None if options.features is None else classifier.store_features(options.features),
        options.timeout,
        digest=options.digest,
        isolate=options.isolate,
    )


def _build_on(options: argparse.Namespace, labels: tuple[str, ...] | None, device: str) -> Any:
    return _build_job(argparse.Namespace(**vars(options) | {"device": device}), labels, None)


def _read_descriptions(source: str | None) -> dict[str, str] | None:
    from kinoclip.text.descriptions import label_descriptions, read_descriptions
    from kinoclip.text.labels import LABEL_SETS

    if source is None:
        return None
    return label_descriptions(source) if source in LABEL_SETS else read_descriptions(source)
