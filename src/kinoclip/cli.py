"""The command line: `kinoclip classify|convert|profile|demo`."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from kinoclip.inference.jobs import error_line

FAILURE, USAGE, INTERRUPTED = 1, 2, 130


class UsageError(Exception):
    """The command was given something it cannot use."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code: 0 done, 1 failure, 2 wrong use, 130 interrupted."""
    parser = _build_parser()
    options = parser.parse_args(arguments)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        _quiet_libraries()
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _say("interrupted; what was written is whole, and the same command continues it", INTERRUPTED)
    except BrokenPipeError:
        # the reader of our output has gone; python would complain once more on closing it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except UsageError as error:
        return _say(str(error), USAGE)
    except (FileNotFoundError, ValueError, TypeError, StrictDataclassError) as error:
        return _say(error_line(error), USAGE)
    except OSError as error:
        return _say(_disk_line(error), FAILURE)
    except (RuntimeError, MemoryError, ImportError) as error:
        return _say(error_line(error), FAILURE)


def _say(message: str, code: int) -> int:
    print(f"kinoclip: {message}", file=sys.stderr)
    return code


def _disk_line(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk is full; what was written is whole. Make room, and the same command continues."
    return error_line(error)


def _quiet_libraries() -> None:
    """Keep progress bars and advice of the libraries off the terminal; errors still come through."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kinoclip", description="Recognize actions in video with CLIP.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_classify(commands)
    _add_convert(commands)
    _add_profile(commands)
    demo = commands.add_parser("demo", help="make a few clips, name them, and say why; needs no network")
    demo.add_argument("--output", default="demo", help="folder for the clips and the picture (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=7, help="which clips are made (default: %(default)s)")
    demo.add_argument("--videos", type=int, default=4, help="how many (default: %(default)s)")
    demo.set_defaults(run=_demo)
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"kinoclip {version('kinoclip')}"


def _add_classify(commands: Any) -> None:
    classify = commands.add_parser("classify", help="name the actions in videos, with your own labels")
    classify.add_argument("paths", nargs="+", metavar="PATH", help="video files, folders or http(s) URLs")
    _add_labels(classify, "names to choose from")
    classify.add_argument("--model", default="mini", help="folder, hub id, plain CLIP, or mini (default: %(default)s)")
    classify.add_argument("--output", help="file for the records, .jsonl or .csv; standard output when left out")
    classify.add_argument("--top-k", type=int, default=5, help="labels per video (default: %(default)s)")
    classify.add_argument("--explain", action="store_true", help="add how much each frame counted")
    classify.add_argument("--descriptions", help="a sentence for each label: .json, .csv, or a set: kinetics400, ...")
    classify.add_argument("--lexicon", help="phrases for BIKE's attributes branch: a file as above, or kinetics400")
    classify.add_argument("--lexicon-clip", metavar="CLIP", help="plain CLIP that finds them (default: the model)")
    classify.add_argument("--frames", type=int, help="frames per video, if not the model's own number")
    classify.add_argument("--device", default="cpu", help="where to compute, such as cuda (default: %(default)s)")
    classify.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    classify.set_defaults(run=_classify)


def _add_labels(command: argparse.ArgumentParser, purpose: str) -> None:
    labels = command.add_mutually_exclusive_group()
    labels.add_argument("--labels", help=f"{purpose}, with commas between them")
    labels.add_argument(
        "--labels-file", help="a .txt (one per line), .csv (id,name), .json, or a set: kinetics400, ..."
    )


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser("convert", help="turn an official checkpoint into a folder to publish")
    convert.add_argument("method", metavar="METHOD", help="such as bike")
    convert.add_argument("checkpoint", metavar="CHECKPOINT", help="the authors' file, or a plain CLIP")
    convert.add_argument("--output", required=True, metavar="DIR", help="folder to write")
    convert.add_argument("--clip", help="CLIP that supplies the tokenizer, and the text tower if there is none")
    convert.add_argument("--attributes", metavar="FILE", help="BIKE: checkpoint of the attributes branch")
    _add_labels(convert, "classes that the checkpoint shall carry")
    convert.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="config field; repeatable")
    convert.set_defaults(run=_convert)


def _add_profile(commands: Any) -> None:
    profile = commands.add_parser("profile", help="count parameters and operations, without weights")
    profile.add_argument("name", metavar="METHOD|DIR|HUB_ID")
    profile.add_argument("--clip", help="vitb32, vitb16, vitl14 or vitl14-336, for a method (default: vitb32)")
    profile.add_argument("--frames", type=int, help="frames per view")
    profile.add_argument("--size", type=int, help="image size in pixels")
    profile.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="config field; repeatable")
    profile.add_argument("--prompts", type=int, default=0, help="texts to count too (default: %(default)s)")
    profile.add_argument("--flops", choices=("full", "paper"), default="full", help="what is counted")
    profile.add_argument("--json", action="store_true", help="one JSON object")
    profile.set_defaults(run=_profile)


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Read KEY=VALUE pairs; a value that is no JSON is a text."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {pair}: write KEY=VALUE, such as --set num_frames=16.")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return settings


def _classify(options: argparse.Namespace) -> int:
    from kinoclip.inference.classify import Classifier
    from kinoclip.inference.jobs import Job, RecordFile, find_videos

    labels = _read_label_options(options)
    if options.top_k < 1:
        raise UsageError(f"--top-k {options.top_k}: ask for at least one label.")
    videos = find_videos(options.paths)
    classifier = _load_classifier(Classifier, options)
    job = Job(classifier, labels, options.top_k, options.explain)
    known = classifier.set_labels(labels)
    top_k = min(options.top_k, len(known))
    if options.output is None:
        progress = _Progress(len(videos))
        for record in job.label(videos, progress):
            _print_record(record)
        return progress.exit_code
    with RecordFile(options.output, job.identity, top_k) as records:
        waiting = [video for video in videos if video not in records.done]
        if len(waiting) < len(videos):
            print(f"kinoclip: {len(videos) - len(waiting)} of {len(videos)} are done already", file=sys.stderr)
        progress = _Progress(len(waiting))
        for record in job.label(waiting, progress):
            records.write(record)
    return progress.exit_code


def _read_label_options(options: argparse.Namespace) -> tuple[str, ...] | None:
    from kinoclip.processing import check_labels
    from kinoclip.text.labels import load_names

    if options.labels_file is not None:
        return tuple(load_names(options.labels_file))
    if options.labels is None:
        return None
    labels = tuple(label.strip() for label in options.labels.split(",") if label.strip())
    check_labels(labels)
    return labels


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
        device=device,
        dtype=getattr(torch, options.dtype),
    )
    if options.frames is not None:
        if options.frames < 1:
            raise UsageError(f"--frames {options.frames}: look at one frame at least.")
        classifier.video_processor.num_frames = options.frames
    return classifier


def _print_record(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n")
    sys.stdout.flush()


class _Progress:
    """Say on standard error what was done, how fast, and how long the rest takes."""

    def __init__(self, total: int):
        self.total, self.count, self.failed = total, 0, 0
        self.start = time.monotonic()

    @property
    def exit_code(self) -> int:
        """Failure when the one video that was asked for could not be read; in a folder, a record says so."""
        return FAILURE if self.total == self.failed == 1 else 0

    def __call__(self, record: dict[str, Any]) -> None:
        self.count += 1
        if "error" in record:
            self.failed += 1
            print(f"\rkinoclip: {record['error']['message']}", file=sys.stderr)
        rate = self.count / max(time.monotonic() - self.start, 1e-9)
        rest = (self.total - self.count) / rate
        end = "\n" if self.count == self.total else ""
        line = f"\r{self.count}/{self.total} videos, {self.failed} unreadable, {rate:.1f}/s, {rest:.0f} s left "
        if sys.stderr.isatty() or end:
            print(line if sys.stderr.isatty() else line.strip(), end=end, file=sys.stderr, flush=True)


def _convert(options: argparse.Namespace) -> int:
    from kinoclip.hub.converting import convert

    for line in convert(
        options.method,
        options.checkpoint,
        options.output,
        clip=options.clip,
        attributes=options.attributes,
        labels=_read_label_options(options),
        settings=_settings(options.set),
    ):
        print(line)
    return 0


def _profile(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    import kinoclip  # noqa: F401  (registers the methods)
    from kinoclip.inference.profile import profile, profile_config

    config = profile_config(options.name, clip=options.clip, size=options.size, **_settings(options.set))
    counted = profile(config, num_frames=options.frames, flops=options.flops, prompts=options.prompts)
    if options.json:
        print(json.dumps(asdict(counted)))
    else:
        print(f"{counted.num_frames} frames of {counted.image_size} pixels, one view, counted as {counted.convention}")
        print(f"{counted.parameters / 1e6:10.1f} M parameters, {counted.trainable_parameters / 1e6:.1f} M trainable")
        print(f"{counted.gmacs:10.1f} GMAC")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from kinoclip.inference.demo import run_demo

    if options.videos < 1:
        raise UsageError(f"--videos {options.videos}: make one at least.")
    for line in run_demo(Path(options.output), seed=options.seed, num_videos=options.videos):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
