"""Official checkpoints of BIKE: what fits, what does not, and what is said of it."""

import pytest
import torch

from kinoclip.methods.bike import convert_bike

MLP = ("query_fc", "sentence_fc")


@pytest.fixture
def parts(split_officially, tiny_bike):
    """A video branch in the official layout: its CLIP and its head."""
    return split_officially(tiny_bike)


@pytest.fixture
def mlps():
    generator = torch.Generator().manual_seed(1)
    shapes = {"0.weight": (32, 32), "0.bias": (32,), "2.weight": (32, 32), "2.bias": (32,)}
    return {f"{mlp}.{name}": torch.randn(s, generator=generator) for mlp in MLP for name, s in shapes.items()}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_video_branch_is_converted_bit_for_bit(write, parts, tiny_bike, prefix):
    clip, head = ({prefix + name: tensor for name, tensor in part.items()} for part in parts)
    converted = convert_bike(write(clip, head))
    assert converted.config.temporal_layers == 2
    torch.testing.assert_close(converted.state_dict(), tiny_bike.state_dict(), atol=0, rtol=0)


def test_an_empty_head_means_no_temporal_head(write, parts):
    assert convert_bike(write(parts[0], {})).temporal_head is None


def test_an_attributes_branch_on_the_same_text_tower_shares_it(write, parts, mlps):
    scale = parts[0] | {"logit_scale": torch.tensor(3.0)}
    converted = convert_bike(write(*parts), write(scale, mlps, "attributes.pt"))
    assert converted.config.attributes == "shared"
    assert converted.attributes.logit_scale.item() == 3
    found = converted.state_dict()
    assert all(torch.equal(found[f"attributes.{name}"], tensor) for name, tensor in mlps.items())


def test_an_attributes_branch_on_another_text_tower_brings_it_along(write, parts, mlps):
    other = {name: tensor + 1 if name == "ln_final.bias" else tensor for name, tensor in parts[0].items()}
    converted = convert_bike(write(*parts), write(other, mlps, "attributes.pt"))
    assert converted.config.attributes == "own"
    found = converted.attributes.text_model.final_layer_norm.bias
    assert torch.equal(found, parts[0]["ln_final.bias"] + 1)
    assert torch.equal(converted.text_model.final_layer_norm.bias, parts[0]["ln_final.bias"])


def test_a_checkpoint_that_does_not_fit_one_to_one_is_refused_by_name(write, parts):
    clip, head = parts
    clip["visual.time_embedding"] = torch.ones(8)
    with pytest.raises(ValueError, match=r"official\.pt do not fit BikeModel: 1 unexpected, first visual\.time"):
        convert_bike(write(clip, head))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("attributes first", r"is an attributes branch\. Pass the video branch first"),
        ("video as attributes", "is not an attributes branch: it lacks `query_fc`"),
        ("plain CLIP", r"not a checkpoint of Bike.*use `BikeModel\.from_clip`"),
        ("ResNet", "is a ResNet CLIP"),
    ],
)
def test_another_file_is_refused_and_named(write, parts, mlps, tmp_path, wrong, message):
    torch.save(parts[0], tmp_path / "clip.pt")
    files = {
        "attributes first": lambda: [write(parts[0], mlps)],
        "video as attributes": lambda: [write(*parts), write(*parts, "attributes.pt")],
        "plain CLIP": lambda: [tmp_path / "clip.pt"],
        "ResNet": lambda: [write({"visual.layer1.0.conv1.weight": torch.ones(1)}, {})],
    }
    with pytest.raises(ValueError, match=message):
        convert_bike(*files[wrong]())
