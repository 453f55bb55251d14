"""Take one training step of BIKE, as its official code does: python examples/train_one_step.py CLIP VIDEO LABEL ..."""

import sys

import torch

from kinoclip import BikeModel, BikeProcessor
from kinoclip.training.optimization import parameter_groups

clip, videos, labels = sys.argv[1], sys.argv[2::2], sys.argv[3::2]
names = sorted(set(labels))
try:
    model = BikeModel.from_clip(clip, num_frames=8).train()
    processor = BikeProcessor.from_clip(clip, model.config)
    inputs = processor(text=names, videos=videos)
except (OSError, ValueError) as error:
    sys.exit(str(error))
print("frozen:", sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad))
model.freeze()
print("frozen as in the paper:", sum(p.numel() for p in model.parameters() if not p.requires_grad))
optimizer = torch.optim.AdamW(parameter_groups(model, base_lr=5e-5, weight_decay=0.2))

ids = torch.tensor([names.index(label) for label in labels])
captions = inputs["input_ids"][:, ids]  # one caption per video: the candidates of the contrastive loss
for step in range(2):
    output = model(inputs["pixel_values_videos"], captions, labels=ids, candidate_labels=ids)
    output.loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step}: loss {output.loss.item():.4f}")
