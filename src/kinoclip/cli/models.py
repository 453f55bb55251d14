"""`kinoclip convert`, `publish`, `export` and `profile`: model folders."""

import argparse
from dataclasses import asdict
from typing import Any

from kinoclip.cli.options import (
    ISOLATED_FROM,
    REPEATABLE,
    UsageError,
    add_label_options,
    add_setting_option,
    notify,
    read_label_options,
    read_settings,
    show,
    show_json,
)
from kinoclip.modeling.names import EMBEDDED, check_model_name
from kinoclip.storage import check_exists, check_owned, exclusive, readable_by, write_text


def add_commands(commands: Any) -> None:
    """Register the commands and their options."""
    convert = commands.add_parser("convert", help="convert an official checkpoint to a folder to publish")
    add = convert.add_argument
    add("method", metavar="METHOD", help="such as bike")
    add("checkpoint", metavar="CHECKPOINT", help="the authors' file, or a plain CLIP")
    add("--output", required=True, metavar="DIR", help="folder to write")
    add("--clip", help="CLIP that supplies the tokenizer, and the text tower if the checkpoint has none")
    add("--attributes", metavar="FILE", help="BIKE: checkpoint of the attributes branch")
    add_label_options(convert, "classes that the folder carries")
    add_setting_option(convert, "config field")
    convert.set_defaults(run=_convert)

    publish = commands.add_parser("publish", help="check a model folder, write its card and upload it to the Hub")
    add = publish.add_argument
    add("folder", metavar="DIR", help="as convert and train write it")
    add("repo_id", metavar="REPO_ID", help="ORG/NAME on the Hub; created if it is missing")
    add("--report", **REPEATABLE, metavar="FILE", help="JSON of kinoclip evaluate, for the card; repeatable")
    add("--recipe", metavar="NAME", help="row of a paper to compare with; see kinoclip recipes")
    add("--license", metavar="ID", help="of the weights, such as apache-2.0")
    add("--private", action="store_true", help="make a new repository private")
    add("--results-repo", metavar="ORG/NAME", help="data set on the Hub that collects results")
    add("--dry-run", action="store_true", help="check and list; neither write nor upload")
    publish.set_defaults(run=_publish)

    export = commands.add_parser("export", help="write a model as ONNX graphs and compare them with it")
    add = export.add_argument
    add("model", metavar="MODEL", help="folder, hub id, plain CLIP, or mini")
    add("--output", required=True, metavar="DIR", help="new folder")
    add("--format", default="onnx", help="(default: %(default)s)")
    add("--parts", help="comma-separated, of frames,text,head (default: all)")
    add("--fused", action="store_true", help="one graph from video to logits of the model's own labels")
    add("--dtype", default="float32", help="float32, int8 or openvino-int8 (default: %(default)s)")
    add("--frames", type=int, metavar="T", help="frames per video (default: that of the model)")
    add("--check", action="store_true", help="compare an existing export again; write nothing")
    export.set_defaults(run=_export)

    profile = commands.add_parser(
        "profile", help="count parameters and operations, without weights; or measure accuracy and time of settings"
    )
    add = profile.add_argument
    add("name", metavar="METHOD|DIR|HUB_ID")
    add("--clip", help="vitb32, vitb16, vitl14 or vitl14-336, for a method (default: vitb32)")
    add("--frames", type=int, help="frames per view")
    add("--size", type=int, help="image size in pixels")
    add_setting_option(profile, "config field")
    add("--prompts", type=int, default=0, help="number of texts to count too (default: %(default)s)")
    add("--flops", choices=("full", "paper"), default="full", help="what is counted (default: %(default)s)")
    add("--json", action="store_true", help="print one JSON object")
    add("--measure", action="store_true", help="measure settings of a model here, for kinoclip classify --budget")
    add("--data", help="with --measure: folder, list file, or hub data set of labelled videos, best a validation set")
    add("--split", help="part of it (default: all)")
    add("--device", default="auto", help="with --measure: where to compute (default: %(default)s)")
    profile.set_defaults(run=_profile)


def _convert(options: argparse.Namespace) -> int:
    from kinoclip.data.files import is_hub_id

    labels, settings = read_label_options(options), read_settings(options.set)
    if options.checkpoint != EMBEDDED and not is_hub_id(options.checkpoint):
        check_exists(options.checkpoint)
    from kinoclip.hub.converting import convert  # it imports torch, after the checks

    for line in convert(
        options.method,
        options.checkpoint,
        options.output,
        clip=options.clip,
        attributes=options.attributes,
        labels=labels,
        settings=settings,
    ):
        show(line)
    return 0


def _publish(options: argparse.Namespace) -> int:
    for path in (options.folder, *options.report):
        check_exists(path)
    from kinoclip.hub.publish import publish

    names = ("recipe", "license", "private", "results_repo", "dry_run")
    more = {name: getattr(options, name) for name in names}
    for line in publish(options.folder, options.repo_id, reports=options.report, **more):
        show(line)
    return 0


def _export(options: argparse.Namespace) -> int:
    check_model_name(options.model)
    from kinoclip.export.writing import compare_export, export_recognizer
    from kinoclip.inference.backends import load_recognizer

    model, processor = load_recognizer(options.model, device="cpu", dtype="float32")
    if options.check:
        lines = compare_export(model, processor, options.output)
    else:
        lines = export_recognizer(
            model,
            processor,
            options.output,
            format=options.format,
            parts=None if options.parts is None else [part.strip() for part in options.parts.split(",")],
            dtype=options.dtype,
            num_frames=options.frames,
            fused=options.fused,
            source=options.model,
        )
    for line in lines:
        show(line)
    return 0


def _profile(options: argparse.Namespace) -> int:
    if options.measure or options.data:
        return _measure(options)
    fields = read_settings(options.set)
    from kinoclip.inference.profile import profile, profile_config
    from kinoclip.methods import METHODS

    if options.name in METHODS and options.frames is not None:  # positions and prompts of a method are for its frames
        fields = {"num_frames": options.frames, **fields}
    config = profile_config(options.name, clip=options.clip, size=options.size, **fields)
    counted = profile(config, num_frames=options.frames, flops=options.flops, prompts=options.prompts)
    if options.json:
        show_json(asdict(counted))
    else:
        show(
            f"{counted.num_frames} frames of {counted.image_size} pixels, one view, counted as {counted.convention}",
            f"{counted.parameters / 1e6:10.1f} M parameters, {counted.trainable_parameters / 1e6:.1f} M trainable",
            f"{counted.gmacs:10.1f} GMAC",
        )
    return 0


def _measure(options: argparse.Namespace) -> int:
    if not (options.measure and options.data):
        raise UsageError("--measure and --data belong together: give both or neither.")
    if options.clip or options.frames or options.size or options.set or options.prompts:
        raise UsageError("--measure chooses the settings: leave --clip, --frames, --size, --set and --prompts out.")
    from kinoclip.data.files import check_source

    check_source(options.data)
    check_model_name(options.name)
    from kinoclip.data import load_videos
    from kinoclip.data.coverage import find_mistakes
    from kinoclip.inference.budget import Curve, curve_path
    from kinoclip.inference.measuring import measure_curve

    data, path = load_videos(options.data, split=options.split), curve_path(options.name)
    for mistake in find_mistakes(data):
        notify(mistake)
    path.parent.mkdir(parents=True, exist_ok=True)
    check_owned(path, readable_by(Curve.load))
    isolate = len(data) >= ISOLATED_FROM
    with exclusive(path):
        curve = measure_curve(
            options.name, data, source=options.data, device=options.device, isolate=isolate, report=notify
        )
        write_text(path, curve.to_json(), owns=readable_by(Curve.load))
    if options.json:
        show_json(asdict(curve))
    else:
        show(f"{options.name} on {options.data}: {curve.metric} of {len(data)} videos, {path}", *map(str, curve.front))
    return 0
