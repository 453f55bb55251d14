"""TAM against its official code, from the authors' checkpoint format through conversion and the Auto classes."""

import copy
import re

import pytest
import torch

from kinoclip import TamConfig
from kinoclip.methods.tam import convert_tam
from kinoclip.methods.tam.convert_tam import _rename
from kinoclip.methods.tam.modeling_tam import TamBlock, TemporalAggregation

from .conftest import reload

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


@pytest.fixture(scope="module", params=NETWORKS)
def golden(request, load_golden):
    return load_golden(request.param)


@pytest.fixture(scope="module")
def model(golden, tmp_path_factory):
    """The official checkpoint, converted, saved, and loaded again by the Auto class."""
    folder, config = tmp_path_factory.mktemp("tam"), golden.config
    pooling = "none" if config["without_t_stride"] else config["pooling_method"]
    fields = {"num_frames": config["T"], "blending": config["blending_method"], "temporal_pooling": pooling}
    return reload(convert_tam(golden.write(folder), **fields), folder / "model")


def test_features_logits_and_the_first_blended_block_are_the_official_ones(model, golden):
    blended, official = [], golden.outputs
    hook = model.layer1[0].tam.register_forward_hook(lambda module, inputs, result: blended.append(result))
    with torch.no_grad():
        output = model(golden.inputs["pixel_values"])
        of_frames = model.match(output.frames.embeds.flatten(0, 1), output.text)
    hook.remove()
    torch.testing.assert_close(blended[0], official["act.layer1.0.tam"], **EXACT)
    torch.testing.assert_close(output.frames.embeds, official["frame_features"], **EXACT)
    torch.testing.assert_close(output.logits, official["logits"], **EXACT)
    assert torch.equal(output.logits, output.votes["video"])
    # the classifier on single frames
    torch.testing.assert_close(of_frames, official["frame_logits"].flatten(0, 1), **EXACT)


def test_loss_and_gradients_are_the_official_ones(model, golden):
    model = copy.deepcopy(model)
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
