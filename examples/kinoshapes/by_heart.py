"""Overfit recipes to 16 clips of motion verbs: python examples/kinoshapes/by_heart.py [RECIPE ...].

A method that cannot do that has a fault.
"""

import sys
import tempfile
from pathlib import Path

from kinoclip.evaluation.evaluate import evaluate
from kinoclip.inference.backends import load_recognizer
from kinoclip.kinoshapes import kinoshapes_dataset
from kinoclip.training.recipe import load_recipe
from kinoclip.training.trainer import train

names = sys.argv[1:] or ["alt-r0", "dstpr"]
work = Path(tempfile.mkdtemp())
clips = kinoshapes_dataset(16, label="verb")
for name in names:
    recipe = load_recipe(f"benchmark/{name}").with_settings({"training.epochs": 300, "data.random_frames": False})
    train(recipe, clips, work / name)
    found = evaluate(*load_recognizer(work / name), clips).metrics["top1"]
    before = evaluate(*load_recognizer("mini"), clips).metrics["top1"]
    print(f"{name}: {found:.1%} of 16 clips; CLIP as it is {before:.1%}", flush=True)
