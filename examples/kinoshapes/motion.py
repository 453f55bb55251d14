"""Ten motion verbs, by ALT, DSTPR and averaged frames: python examples/kinoshapes/motion.py [RECIPE ...].

First each recipe learns 16 clips by heart, then 40 clips of each verb; what counts is its accuracy on 200 unseen clips. Colors and
shapes say nothing of the verb.
"""

import json
import sys
import tempfile
from pathlib import Path

from run import write_texts

from kinoclip.data.kinoshapes import kinoshapes_dataset
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.inference.loading import load_recognizer
from kinoclip.training.loop import train
from kinoclip.training.recipe import load_recipe

names = sys.argv[1:] or ["bike-mean", "alt-r0", "dstpr"]
work = Path(tempfile.mkdtemp())
write_texts(work)
few = kinoshapes_dataset(16, label="verb")
many, unseen = kinoshapes_dataset(400, label="verb"), kinoshapes_dataset(200, split="test", label="verb")
print(f"clip as it is: {evaluate(*load_recognizer('mini'), unseen).metrics['top1']:.1%} of unseen clips")
for name in names:
    recipe = load_recipe(f"benchmark/{name}")
    if recipe.method == "alt":
        recipe = recipe.with_settings({"data.corpus": str(work / "corpus.jsonl")})
    if recipe.model.get("chinese_branch"):
        names_file = work / "chinese.json"
        recipe = recipe.with_settings(
            {"data.chinese_labels": str(names_file), "data.chinese_clip": str(work / "chinese_clip")}
        )
    found = {}
    for kind, videos, measured, epochs in (("by heart", few, few, 100), ("unseen", many, unseen, 12)):
        folder = work / f"{name} {kind}"
        train(recipe.with_settings({"training.epochs": epochs, "data.random_frames": False}), videos, folder)
        found[kind] = round(evaluate(*load_recognizer(folder), measured).metrics["top1"], 3)
    print(f"{name}: {json.dumps(found)}", flush=True)
