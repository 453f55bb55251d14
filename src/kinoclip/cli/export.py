"""`kinoclip export`: a model as graphs for other runtimes."""

from __future__ import annotations

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    """Declare `kinoclip export` and its options."""
    export = commands.add_parser(
        "export", help="write a model as ONNX or torch.export graphs, and compare them with it"
    )
    export.add_argument("model", metavar="MODEL", help="folder, hub id, plain CLIP, or mini")
    export.add_argument("--output", required=True, metavar="DIR", help="new folder")
    export.add_argument("--format", choices=("onnx", "torch"), default="onnx", help="(default: %(default)s)")
    export.add_argument("--parts", help="of frames,text,head, with commas between them (default: all)")
    export.add_argument(
        "--fused", action="store_true", help="one graph from video to logits of the model's own labels"
    )
    export.add_argument("--dtype", choices=("float32", "bfloat16", "int8"), default="float32")
    export.add_argument("--frames", type=int, metavar="T", help="frames per video, if not the model's own number")
    export.add_argument("--check", action="store_true", help="write nothing; compare the export that is there again")
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from kinoclip.export.writing import compare_export, export_recognizer
    from kinoclip.inference.loading import load_recognizer

    model, processor = load_recognizer(options.model)
    if options.check:
        # the person who names the folder here is the one who made it
        lines = compare_export(model, processor, options.output, trust=True)
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
        print(line, flush=True)
    return 0
