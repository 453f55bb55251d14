"""Official checkpoints of BIKE: what fits, what does not, and what is said of it."""

import pytest
import torch

from kinoclip import BikeConfig, BikeModel
from kinoclip.methods.bike import convert_bike

MLP = ("query_fc", "sentence_fc")


@pytest.fixture
def parts(as_openai, tiny_bike):
    """A video branch in the official layout: its CLIP and its head."""
    state = {name: tensor.clone() for name, tensor in tiny_bike.state_dict().items()}
    head = {name.removeprefix("temporal_head."): t for name, t in state.items() if name.startswith("temporal_head.")}
    clip = as_openai({name: t for name, t in state.items() if not name.startswith("temporal_head.")})
    # the head is laid out like CLIP's text tower
    blocks = as_openai({name: t for name, t in head.items() if name.startswith("encoder.")})
    blocks = {name.replace("encoder.layers.", "transformer.resblocks."): t for name, t in blocks.items()}
    return clip, blocks | {"frame_position_embeddings.weight": head["position_embedding.weight"]}


@pytest.fixture
def mlps():
    generator = torch.Generator().manual_seed(1)
    shapes = {"0.weight": (32, 32), "0.bias": (32,), "2.weight": (32, 32), "2.bias": (32,)}
    return {f"{mlp}.{name}": torch.randn(s, generator=generator) for mlp in MLP for name, s in shapes.items()}


@pytest.fixture
def write(tmp_path):
    def write(clip, head, name="video.pt"):
        torch.save({"epoch": 3, "model_state_dict": clip, "fusion_model_state_dict": head}, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_video_branch_is_converted_bit_for_bit(write, parts, tiny_bike, prefix):
    clip, head = ({prefix + name: tensor for name, tensor in part.items()} for part in parts)
    converted = convert_bike(write(clip, head))
    assert converted.config.temporal_layers == 2
    assert converted.state_dict().keys() == tiny_bike.state_dict().keys()
    assert all(torch.equal(converted.state_dict()[name], t) for name, t in tiny_bike.state_dict().items())


def test_an_empty_head_means_no_temporal_head(write, parts):
    assert convert_bike(write(parts[0], {})).temporal_head is None


def test_other_fields_are_taken_as_given(write, parts):
    config = convert_bike(write(*parts), num_frames=16, interaction="mean").config
    assert (config.num_frames, config.interaction) == (16, "mean")


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clip, head: clip.pop("ln_final.bias"), r"1 missing, first text_model\.final_layer_norm\.bias"),
        (lambda clip, head: head.pop("frame_position_embeddings.weight"), r"1 missing, first temporal_head\.position"),
        (lambda clip, head: clip.update({"visual.time_embedding": torch.ones(8)}), r"1 left over, first visual\.time"),
        (lambda clip, head: head.update({"lstm.weight": torch.ones(8)}), r"1 left over, first lstm\.weight"),
        (lambda clip, head: clip.update({"ln_final.bias": torch.ones(7)}), r"1 of another shape, first text_model\."),
    ],
)
def test_a_checkpoint_that_does_not_fit_one_to_one_is_refused_by_name(write, parts, change, message):
    change(*parts)
    with pytest.raises(ValueError, match=rf"video\.pt does not fit BikeModel: {message}"):
        convert_bike(write(*parts))


def test_an_attributes_branch_given_as_video_branch_is_called_so(write, parts, mlps):
    with pytest.raises(ValueError, match=r"is an attributes branch\. Give the video branch first"):
        convert_bike(write(parts[0], mlps))


def test_a_video_branch_given_as_attributes_is_called_so(write, parts):
    with pytest.raises(ValueError, match="is no attributes branch: it has no `query_fc`"):
        convert_bike(write(*parts), write(*parts, "attributes.pt"))


def test_a_plain_clip_is_sent_to_from_clip(parts, tmp_path):
    torch.save(parts[0], tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=r"is no BIKE checkpoint.*use `BikeModel\.from_clip`"):
        convert_bike(tmp_path / "clip.pt")


def test_a_resnet_checkpoint_is_called_so(write):
    with pytest.raises(ValueError, match="is a ResNet CLIP"):
        convert_bike(write({"visual.layer1.0.conv1.weight": torch.ones(1)}, {}))


def test_a_converted_model_is_saved_under_this_packages_names(write, parts, tmp_path):
    convert_bike(write(*parts)).save_pretrained(tmp_path / "saved")
    loaded, report = BikeModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(report.values())
    assert isinstance(loaded.config, BikeConfig)
