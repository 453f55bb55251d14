"""`kinoclip embed`: one vector for each video, to search among them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .options import Progress, UsageError, add_model_options, find_launch, read_model_options


def add_command(commands: Any) -> None:
    """Declare `kinoclip embed` and its options."""
    embed = commands.add_parser("embed", help="write a vector for each video, for kinoclip search and others")
    embed.add_argument("paths", nargs="+", metavar="PATH", help="video files, folders or http(s) URLs")
    embed.add_argument("--output", required=True, metavar="FILE", help="the vectors, .safetensors or .parquet")
    embed.add_argument(
        "--pooling",
        choices=("own", "mean"),
        default="own",
        help="the method's own vector of a video, or the mean of its frames, for methods that weigh these anew for each label "
        "and know a mean too (default: %(default)s)",
    )
    add_model_options(embed)
    embed.set_defaults(run=_embed)


def _embed(options: argparse.Namespace) -> int:
    from kinoclip.inference.classify import Classifier
    from kinoclip.inference.jobs import find_videos, leave_out
    from kinoclip.inference.search import check_embeddings_path, embed_videos

    check_embeddings_path(options.output)
    if find_launch(options.device) is not None:
        raise UsageError("kinoclip embed runs in one process.")
    videos = leave_out(find_videos(options.paths), [options.output, options.features])
    classifier = Classifier.load(options.model, **read_model_options(options))
    if options.frames is not None:
        classifier.video_processor.num_frames = options.frames
    embeddings = embed_videos(
        videos,
        model=classifier,
        pooling=options.pooling,
        batch_size=options.batch_size,
        features=options.features,
        read_seconds=options.timeout,
        report=Progress(len(videos)),
    )
    embeddings.save(options.output)
    rows, width = embeddings.embeds.shape
    left_out = f", without {len(embeddings.unreadable)} that cannot be read" if embeddings.unreadable else ""
    print(f"kinoclip: wrote {options.output}: {rows} videos, {width} numbers each{left_out}", file=sys.stderr)
    return 0
