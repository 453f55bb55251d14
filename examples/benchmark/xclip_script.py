"""What a user of transformers writes to label a video with X-CLIP: python xclip_script.py VIDEO LABELS MODEL."""

import sys

import numpy as np
import torch
from transformers import AutoModel, AutoProcessor
from transformers.video_utils import load_video

path, labels, name = sys.argv[1], sys.argv[2].split(","), sys.argv[3]
model, processor = AutoModel.from_pretrained(name).eval(), AutoProcessor.from_pretrained(name)
frames, _ = load_video(path, sample_indices_fn=lambda metadata, **_: np.arange(8) * metadata.total_num_frames // 8)
with torch.inference_mode():
    inputs = processor(text=labels, videos=list(frames), return_tensors="pt", padding=True)
    probabilities = model(**inputs).logits_per_video.softmax(-1)[0]
print(dict(zip(labels, probabilities.tolist(), strict=True)))
