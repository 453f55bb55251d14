import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinoclip import BikeConfig
from kinoclip.modeling.layers.temporal_transformer import TemporalTransformer


@pytest.fixture(scope="module")
def head():
    text = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 12}
    torch.manual_seed(0)
    return TemporalTransformer.for_config(BikeConfig(text_config=text, projection_dim=32, temporal_layers=3)).eval()


def test_heads_and_positions_are_those_of_the_text_tower_and_width_is_the_shared_space(head):
    assert head.config.num_attention_heads == 4
    assert head.position_embedding.weight.shape == (12, 32)
    assert head.encoder.layers[0].mlp.fc1.weight.shape == (128, 32)
    assert len(head.encoder.layers) == 3


@torch.no_grad()
def test_every_frame_attends_to_later_ones_and_the_order_counts(head):
    frames = torch.randn(1, 5, 32)
    changed = frames.clone()
    changed[:, 4] = torch.randn(32)
    assert (head(frames)[:, 0] - head(changed)[:, 0]).abs().max() > 1e-4
    assert (head(frames.flip(1)).flip(1) - head(frames)).abs().max() > 1e-3


def test_there_can_be_as_many_frames_as_positions(head):
    assert head(torch.randn(1, 12, 32)).shape == (1, 12, 32)
    with pytest.raises(ValueError, match="positions for 12 frames, but the video has 13"):
        head(torch.randn(1, 13, 32))


def test_attention_starts_xavier_uniform_over_the_fused_projection_and_other_layers_normal(head):
    # fan in 32 and fan out 3 * 32: bound sqrt(6 / 128)
    bound = math.sqrt(6 / 128)
    for name in ("q_proj", "k_proj", "v_proj"):
        weight = head.encoder.layers[0].self_attn.get_submodule(name).weight
        assert 0.95 * bound < weight.abs().max() <= bound
    for name in ("self_attn.out_proj", "mlp.fc1", "mlp.fc2"):
        layer = head.encoder.layers[1].get_submodule(name)
        # 1024 draws or more: the deviation of the estimate is 0.02 / sqrt(2 * 1024), under 3 percent
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert not layer.bias.any()


def test_inside_a_recognizer_and_on_loading_the_head_starts_the_same(tiny_bike, tmp_path):
    tiny_bike.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("temporal_head.")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = type(tiny_bike).from_pretrained(tmp_path)
    # uniform to sqrt(6 / 128) = 0.2165 has deviation 0.125
    deviations = [m.temporal_head.encoder.layers[0].self_attn.k_proj.weight.std().item() for m in (tiny_bike, loaded)]
    assert deviations == pytest.approx([0.125, 0.125], rel=0.1)
