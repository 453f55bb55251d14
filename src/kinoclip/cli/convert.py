"""`kinoclip convert`: an official checkpoint to a folder to publish."""

from __future__ import annotations

import argparse
from typing import Any

from .options import add_label_options, read_label_options, read_settings


def add_command(commands: Any) -> None:
    """Declare `kinoclip convert` and its options."""
    convert = commands.add_parser("convert", help="turn an official checkpoint into a folder to publish")
    convert.add_argument("method", metavar="METHOD", help="such as bike")
    convert.add_argument("checkpoint", metavar="CHECKPOINT", help="the authors' file, or a plain CLIP")
    convert.add_argument("--output", required=True, metavar="DIR", help="folder to write")
    convert.add_argument("--clip", help="CLIP that supplies the tokenizer, and the text tower if there is none")
    convert.add_argument("--attributes", metavar="FILE", help="BIKE: checkpoint of the attributes branch")
    add_label_options(convert, "classes that the checkpoint shall carry")
    convert.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="config field; repeatable")
    convert.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    from kinoclip.hub.converting import convert

    for line in convert(
        options.method,
        options.checkpoint,
        options.output,
        clip=options.clip,
        attributes=options.attributes,
        labels=read_label_options(options),
        settings=read_settings(options.set),
    ):
        print(line)
    return 0
