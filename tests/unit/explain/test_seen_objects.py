"""Whether explanations point at what is there: KinoShapes knows where its objects are."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from kinoclip import BikeModel, BikeProcessor
from kinoclip.kinoshapes import kinoshapes_clips
from kinoclip.methods.auto import mini_clip_path

NUM_CLIPS = 24


@pytest.fixture(scope="module", params=[0, 4], ids=["plain", "merged"])
def shares(request) -> torch.Tensor:
    """The share of attention inside the object's mask, and that of its area, for each clip that no training saw."""
    model = BikeModel.from_clip(mini_clip_path(), temporal_head="none", merge_r=request.param).eval()
    processor = BikeProcessor.from_clip(mini_clip_path(), model.config)
    with torch.no_grad():
        text = model.encode_text(processor(text=["circle"])["input_ids"])
        clips = kinoshapes_clips(NUM_CLIPS, seed=11, split="test")
        return torch.stack([_share(model, processor, text, clip) for clip in clips])


def _share(model, processor, text, clip) -> torch.Tensor:
    sample = processor.video_processor.sample(clip.frames)
    frames = model.encode_frames(sample.pixel_values)
    attention = model.explain(frames, text, sample.pixel_values).attention[0]
    # the model sees the central 96 of 128 columns, in 6 x 6 patches of 16 pixels
    masks = torch.from_numpy(clip.masks[sample.indices][:, :, 16:112]).float()
    covered = avg_pool2d(masks[:, None], 16)[:, 0]
    there = covered.sum((1, 2)) > 0  # a blinking object is gone at times
    return torch.stack([(attention * covered).sum((1, 2))[there].mean(), covered[there].mean()])


def test_the_object_gets_twice_the_attention_of_its_area_and_more_in_every_clip(shares):
    attention, area = shares.mean(0)
    # measured: 0.279 of the attention on 0.114 of the area, with and without merging
    assert attention > 2 * area
    assert (shares[:, 0] > shares[:, 1]).all()
