"""Train BIKE with the Trainer of Transformers: python examples/train_with_trainer.py CLIP FOLDER OUTPUT.

FOLDER holds a folder of videos for each label; every other video is for evaluation.
"""

import sys
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

from kinoclip import BikeModel, BikeProcessor

clip, folder, output = sys.argv[1:]
videos = sorted(path for path in Path(folder).glob("*/*") if path.is_file())
names = sorted({path.parent.name for path in videos})
if len(names) < 2:
    sys.exit(f"{folder} must hold a folder of videos for each of two labels or more, got {len(names)}.")
model = BikeModel.from_clip(clip)
model.freeze()
processor = BikeProcessor.from_clip(clip, model.config)
candidates = dict(processor(text=names))


def collate(paths):
    labels = torch.tensor([names.index(path.parent.name) for path in paths])
    return {**processor(videos=list(paths)), **candidates, "labels": labels}


def accuracy(evaluated):  # the predictions are the logits (B, K)
    return {"accuracy": float((evaluated.predictions.argmax(-1) == evaluated.label_ids).mean())}


arguments = TrainingArguments(output, num_train_epochs=1, learning_rate=1e-5, report_to=[], save_strategy="no")
parts = {"train_dataset": videos[::2], "eval_dataset": videos[1::2]}
trainer = Trainer(model, arguments, data_collator=collate, compute_metrics=accuracy, **parts)
trainer.train()
print(trainer.evaluate())
