"""Measure a model with video tasks of mteb: `python mteb_model.py MODEL HMDB51Classification`.

It needs `pip install 'mteb[video]'`; mteb downloads the data of a task.
"""

import sys
from pathlib import Path

import mteb
import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta

from kinoclip import Classifier


class VideoTextEncoder(AbsEncoder):
    """Videos and texts in the space of a recognizer, by the interface of mteb."""

    def __init__(self, model_name, revision=None, device=None, **options):
        self.classifier = Classifier.load(model_name, device=device or "auto", **options)
        name = model_name if not Path(model_name).exists() else f"kinoclip/{Path(model_name).name}"
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": name, "revision": revision, "modalities": ["video", "text"]}
        )

    def encode(self, inputs, **_):
        kinds = {"video": self.classifier.encode_video, "text": self.classifier.encode_text}
        return torch.cat([sum(kinds[kind](batch[kind]) for kind in kinds if kind in batch) for batch in inputs])

    def similarity(self, embeddings1, embeddings2):
        return self.classifier.similarity(torch.as_tensor(embeddings1), torch.as_tensor(embeddings2))


if __name__ == "__main__":
    encoder = VideoTextEncoder(sys.argv[1])
    for result in mteb.evaluate(encoder, mteb.get_tasks(tasks=sys.argv[2:]), encode_kwargs={"batch_size": 8}):
        print(result.task_name, result.get_score())
