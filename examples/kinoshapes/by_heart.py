"""Let recipes learn 16 clips of motion verbs by heart: python examples/kinoshapes/by_heart.py [RECIPE ...].

A method that cannot do that has a fault. What it makes of clips that it has not seen stands in RESULTS.md.
"""

import sys
import tempfile
from pathlib import Path

from run import name_texts, write_texts

from kinoclip.data.kinoshapes import kinoshapes_dataset
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.inference.loading import load_recognizer
from kinoclip.training.loop import train
from kinoclip.training.recipe import load_recipe

names = sys.argv[1:] or ["alt-r0", "dstpr"]
work = Path(tempfile.mkdtemp())
write_texts(work)
clips = kinoshapes_dataset(16, label="verb")
for name in names:
    recipe = load_recipe(f"benchmark/{name}")
    settings = {"training.epochs": 300, "data.random_frames": False, **name_texts(recipe, work)}
    train(recipe.with_settings(settings), clips, work / name)
    found = evaluate(*load_recognizer(work / name), clips).metrics["top1"]
    before = evaluate(*load_recognizer("mini"), clips).metrics["top1"]
    print(f"{name}: {found:.1%} of 16 clips; CLIP as it is {before:.1%}", flush=True)
