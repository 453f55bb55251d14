"""TAM against its official code, from the authors' checkpoint format through conversion and the Auto classes."""

import re

import pytest
import torch
from transformers import AutoModel

from kinoclip import TamConfig
from kinoclip.methods.tam import convert_tam
from kinoclip.methods.tam.convert_tam import _rename
from kinoclip.methods.tam.modeling_tam import TamBlock, TemporalAggregation

# recorded in float32 on one thread; activations and gradients are of order 1
EXACT = {"atol": 1e-5, "rtol": 1e-5}

NETWORKS = ["tam_resnet", "tam_resnet_tp"]
# name of a recorded module: the fields of its config
MODULES = {
    "ibm_b3_sum": {},
    "ibm_b3_max": {"blending": "max"},
    "ibm_b5_sum": {"blending_frames": 5},
    "ibm_b3_sum_dense": {"dense_blending": True},
    "blvnet_b3": {},
    "blvnet_b5": {"blending_frames": 5},
}
BLOCKS = {"ibm_bottleneck": {}, "blvnet_bottleneck": {"shortcut": "pooled"}}


@pytest.fixture(params=NETWORKS)
def golden(request, load_golden):
    return load_golden(request.param)


@pytest.fixture
def model(golden, tmp_path):
    """The official checkpoint, converted, saved, and loaded again by the Auto class."""
    config = golden.config
    pooling = "none" if config["without_t_stride"] else config["pooling_method"]
    fields = {"num_frames": config["T"], "blending": config["blending_method"], "temporal_pooling": pooling}
    convert_tam(golden.write(tmp_path), **fields).save_pretrained(tmp_path / "tam")
    loaded, report = AutoModel.from_pretrained(tmp_path / "tam", output_loading_info=True)
    assert not any(report.values())
    return loaded.eval()


@pytest.fixture
def output(model, golden):
    with torch.no_grad():
        return model(pixel_values_videos=golden.inputs["pixel_values"])


def test_frame_features_are_the_official_ones(output, golden):
    torch.testing.assert_close(output.frames.embeds, golden.outputs["frame_features"], **EXACT)


def test_logits_are_the_official_ones(output, golden):
    torch.testing.assert_close(output.logits, golden.outputs["logits"], **EXACT)
    assert torch.equal(output.logits, output.votes["video"])


def test_the_classifier_on_single_frames_gives_the_official_logits_of_frames(model, output, golden):
    with torch.no_grad():
        found = model.match(output.frames.embeds.flatten(0, 1), output.text)
    torch.testing.assert_close(found, golden.outputs["frame_logits"].flatten(0, 1), **EXACT)


def test_the_first_block_blends_frames_as_the_official_one(model, golden):
    found = []
    model.layer1[0].tam.register_forward_hook(lambda module, inputs, blended: found.append(blended))
    with torch.no_grad():
        model(pixel_values_videos=golden.inputs["pixel_values"])
    torch.testing.assert_close(found[0], golden.outputs["act.layer1.0.tam"], **EXACT)


def test_loss_and_gradients_are_the_official_ones(model, golden):
    output = model(golden.inputs["pixel_values"], labels=golden.inputs["labels"])  # recorded in evaluation mode
    output.loss.backward()
    torch.testing.assert_close(output.loss, golden.outputs["loss"], **EXACT)
    recorded = {_rename(n.removeprefix("grad.")): t for n, t in golden.outputs.items() if n.startswith("grad.")}
    assert len(recorded) == 5
    parameters = dict(model.named_parameters())
    torch.testing.assert_close({name: parameters[name].grad for name in recorded}, recorded, **EXACT)


def _state(golden, name):
    """The weights of one recorded module, under the names they have here; bLVNet's lack the `_se` and the `fc1`."""
    states = golden.checkpoints["checkpoint"]["state_dict"]
    state = {key.removeprefix(f"{name}."): t for key, t in states.items() if key.startswith(f"{name}.")}
    state = {re.sub(r"(prev|curr|next)\.weight", r"\1_se.fc1.weight", key): t for key, t in state.items()}
    state = {re.sub(r"(layers\.\d+)\.weight", r"\1.fc1.weight", key): t for key, t in state.items()}
    place = "layer1.0." if name in BLOCKS else "layer1.0.tam."
    return {_rename(place + key).removeprefix(place): tensor for key, tensor in state.items()}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_blends_frames_as_the_official_one(load_golden, name):
    golden = load_golden("tam_module")
    module = TemporalAggregation(TamConfig(**MODULES[name]), width=6)
    module.load_state_dict(_state(golden, name))
    with torch.no_grad():
        torch.testing.assert_close(module(golden.inputs["x"], num_frames=4), golden.outputs[name], **EXACT)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_mixes_its_shortcut_as_the_official_one(load_golden, name):
    golden = load_golden("tam_module")
    block = TamBlock(TamConfig(**BLOCKS[name]), in_width=6, width=4, stride=2).eval()
    block.load_state_dict(_state(golden, name))
    with torch.no_grad():
        torch.testing.assert_close(block(golden.inputs["x"], num_frames=4), golden.outputs[name], **EXACT)
