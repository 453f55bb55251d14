"""The temporal shift: which channels move where, and a vision tower made of layers that shift."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from kinoclip.modeling.layers.temporal_shift import TemporalShiftLayer, replace_layers, shift_frames

# two videos of three frames of four channels; frame t of video b holds 100 b + 10 t + channel
FRAMES = torch.tensor([[100 * b + 10 * t + c for c in range(4)] for b in range(2) for t in range(3)])
SHIFTED = torch.tensor(
    [
        [10, 0, 2, 3],  # channel 0 of frame 1; zero from before the video
        [20, 1, 12, 13],
        [0, 11, 22, 23],  # zero from after the video, not frame 0 of the next one
        [110, 0, 102, 103],
        [120, 101, 112, 113],
        [0, 111, 122, 123],
    ]
)


@pytest.mark.parametrize(
    ("frames", "fold", "expected"),
    [
        (FRAMES, 1, SHIFTED),
        (FRAMES, 0, FRAMES),  # too few channels to move
        (FRAMES[:3], 2, torch.tensor([[10, 11, 0, 0], [20, 21, 2, 3], [0, 0, 12, 13]])),
        (FRAMES[:1], 1, torch.tensor([[0, 0, 2, 3]])),
    ],
)
def test_the_first_channels_come_from_the_next_frame_and_the_second_from_the_previous_one(frames, fold, expected):
    assert torch.equal(shift_frames(frames, num_frames=min(3, len(frames)), fold=fold), expected)


def test_channels_can_come_before_pixels():
    images = FRAMES[:, :, None, None].expand(-1, -1, 2, 5)
    expected = SHIFTED[:, :, None, None].expand(-1, -1, 2, 5)
    assert torch.equal(shift_frames(images, num_frames=3, fold=1, channel_dim=1), expected)


@pytest.fixture(scope="module")
def vision_model():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 1, "num_hidden_layers": 1}
    torch.manual_seed(0)
    model = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=16))
    state = model.state_dict()
    replace_layers(model, TemporalShiftLayer)
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def test_the_tower_passes_the_number_of_frames_to_its_layers_and_needs_it(vision_model):
    pixels = torch.randn(4, 3, 32, 32)
    together = vision_model(pixel_values=pixels, num_frames=4).pooler_output
    apart = vision_model(pixel_values=pixels, num_frames=1).pooler_output
    assert together.shape == (4, 16)
    assert not torch.allclose(together, apart)
    with pytest.raises(TypeError, match="num_frames"):
        vision_model(pixel_values=pixels)
