"""X-CLIP's switches; its numbers are compared with Transformers' in `parity/test_xclip.py`."""

from functools import partial

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from kinoclip import XclipConfig, XclipModel


@pytest.fixture
def build(make):
    return partial(make, XclipModel, num_frames=4)


@pytest.mark.parametrize(("cross_frame", "changes"), [("attention", True), ("none", False)])
def test_a_frame_reads_the_others_if_messages_are_exchanged(build, moved_by, cross_frame, changes):
    assert moved_by(build(cross_frame=cross_frame)) == [changes] * 3 + [True]


def test_without_a_temporal_head_the_frames_are_averaged(build, pixels):
    model = build(temporal_head="none")
    frames = model.encode_frames(pixels)
    torch.testing.assert_close(model.aggregate(frames, None), frames.embeds.mean(1))


def test_more_frames_than_positions_are_refused(build, pixels):
    model = build(num_frames=3)
    with pytest.raises(ValueError, match="positions for 3 frames, but the video has 4"):
        model.aggregate(model.encode_frames(pixels), None)


def test_tokens_do_not_merge_in_layers_that_exchange_messages(tiny_fields):
    with pytest.raises(StrictDataclassError, match=r"cross_frame changes them. Set merge_r=0"):
        XclipConfig(**tiny_fields, merge_r=1)
