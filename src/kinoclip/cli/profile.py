"""`kinoclip profile`: count parameters and operations."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .options import read_settings


def add_command(commands: Any) -> None:
    """Declare `kinoclip profile` and its options."""
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


def _profile(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    import kinoclip  # noqa: F401  (registers the methods)
    from kinoclip.inference.profile import profile, profile_config

    config = profile_config(options.name, clip=options.clip, size=options.size, **read_settings(options.set))
    counted = profile(config, num_frames=options.frames, flops=options.flops, prompts=options.prompts)
    if options.json:
        print(json.dumps(asdict(counted)))
    else:
        print(f"{counted.num_frames} frames of {counted.image_size} pixels, one view, counted as {counted.convention}")
        print(f"{counted.parameters / 1e6:10.1f} M parameters, {counted.trainable_parameters / 1e6:.1f} M trainable")
        print(f"{counted.gmacs:10.1f} GMAC")
    return 0
