"""Describe videos by phrases of a lexicon, as BIKE's attributes branch does: python examples/find_attributes.py VIDEO...

Give a plain CLIP with `--clip`; the paper's attributes are those of openai/clip-vit-large-patch14.
"""

import argparse
import sys

from kinoclip.inference.attributes import AttributeFinder

parser = argparse.ArgumentParser()
parser.add_argument("videos", nargs="+")
parser.add_argument("--clip", default="openai/clip-vit-large-patch14")
options = parser.parse_args()
try:
    finder = AttributeFinder.load(options.clip, lexicon="kinetics400")
    for video in options.videos:
        print(video, ", ".join(finder.find(video)))
except (OSError, ValueError) as error:
    sys.exit(str(error))
