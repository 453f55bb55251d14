"""Command line: `python -m kinoclip.training.mini_clip --output DIR [--seed 0] [--minutes M | --steps N]`."""

import argparse
import sys

import torch

from .run import train
from .settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Train a mini CLIP as the command line says; progress goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m kinoclip.training.mini_clip", description=__doc__)
    defaults = Settings()
    parser.add_argument("--output", required=True, help="new folder")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=defaults.minutes, help="of training, after rendering")
    length.add_argument("--steps", type=int, help="instead of minutes; repeats exactly")
    parser.add_argument("--pool-clips", type=int, default=defaults.pool_clips, help="clips to render for training")
    parser.add_argument("--measured-videos", type=int, default=360, help="unseen clips of each kind to score")
    parser.add_argument("--threads", type=int, help="of torch")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = Settings(seed=options.seed, steps=options.steps, minutes=options.minutes, pool_clips=options.pool_clips)
    words = sys.argv[1:] if arguments is None else arguments
    command = " ".join(["python -m kinoclip.training.mini_clip", *words])
    try:
        train(settings, options.output, options.measured_videos, command)
    except FileExistsError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
