"""The temporal shift: what moves where, and a vision tower made of layers that shift."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from kinoclip.components.temporal_shift import TemporalShiftLayer, replace_layers, shift_frames

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


def test_the_first_channels_come_from_the_next_frame_and_the_second_from_the_previous_one():
    assert torch.equal(shift_frames(FRAMES, num_frames=3, fold=1), SHIFTED)


def test_channels_can_stand_before_pixels():
    images = FRAMES[:, :, None, None].expand(-1, -1, 2, 5)
    expected = SHIFTED[:, :, None, None].expand(-1, -1, 2, 5)
    assert torch.equal(shift_frames(images, num_frames=3, fold=1, channel_dim=1), expected)


def test_half_of_the_channels_can_move_in_each_direction():
    expected = torch.tensor([[10, 11, 0, 0], [20, 21, 2, 3], [0, 0, 12, 13]])
    assert torch.equal(shift_frames(FRAMES[:3], num_frames=3, fold=2), expected)


def test_a_video_of_one_frame_loses_what_would_move():
    assert torch.equal(shift_frames(FRAMES[:1], num_frames=1, fold=1), torch.tensor([[0, 0, 2, 3]]))


def test_too_few_channels_to_move_change_nothing():
    assert torch.equal(shift_frames(FRAMES, num_frames=3, fold=0), FRAMES)


@pytest.fixture
def vision_model():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 1, "num_hidden_layers": 1}
    torch.manual_seed(0)
    model = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=16))
    state = model.state_dict()
    replace_layers(model, TemporalShiftLayer)
    model.load_state_dict(state)
    return model.eval()


def test_replaced_layers_keep_the_names_of_their_weights(vision_model):
    assert vision_model.state_dict().keys() == CLIPVisionModel(vision_model.config).state_dict().keys()


def test_the_layer_shifts_an_eighth_of_the_patches_and_leaves_the_class_token(vision_model):
    layer = vision_model.encoder.layers[0]
    tokens = torch.randn(4, 5, 16, generator=torch.Generator().manual_seed(0))
    shifted = tokens.clone()
    # 16 // 8 = 2 channels each way, two videos of two frames
    shifted[[0, 2], 1:, :2], shifted[[1, 3], 1:, :2] = tokens[[1, 3], 1:, :2], torch.tensor(0.0)
    shifted[[1, 3], 1:, 2:4], shifted[[0, 2], 1:, 2:4] = tokens[[0, 2], 1:, 2:4], torch.tensor(0.0)
    plain = super(TemporalShiftLayer, layer).forward
    with torch.no_grad():
        assert torch.equal(layer(tokens, None, num_frames=2), plain(shifted, None))


def test_the_tower_hands_the_number_of_frames_to_its_layers(vision_model):
    pixels = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        together = vision_model(pixel_values=pixels, num_frames=4).pooler_output
        apart = vision_model(pixel_values=pixels, num_frames=1).pooler_output
    assert together.shape == (4, 16)
    assert not torch.allclose(together, apart)


def test_without_the_number_of_frames_the_tower_refuses(vision_model):
    with pytest.raises(TypeError, match="num_frames"):
        vision_model(pixel_values=torch.randn(4, 3, 32, 32))
