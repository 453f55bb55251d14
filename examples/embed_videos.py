"""Get one CLIP vector per video, for search or a classifier: python examples/embed_videos.py MODEL VIDEO..."""

import sys

import torch
from transformers import AutoModel, AutoProcessor

import kinoclip  # noqa: F401  (makes the models known to transformers)

model = AutoModel.from_pretrained(sys.argv[1]).eval()
processor = AutoProcessor.from_pretrained(sys.argv[1])
inputs = processor(videos=sys.argv[2:])
with torch.inference_mode():
    frames = model.encode_frames(inputs["pixel_values_videos"]).embeds
videos = torch.nn.functional.normalize(frames.mean(1), dim=-1)
for name, similar in zip(sys.argv[2:], (videos @ videos.T).tolist(), strict=True):
    print(name, " ".join(f"{cosine:.3f}" for cosine in similar))
