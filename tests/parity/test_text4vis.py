"""Text4Vis against its official code, from the authors' checkpoint format through conversion and the Auto classes."""

import copy

import pytest
import torch
from transformers import CLIPVisionConfig

from kinoclip import Text4VisConfig
from kinoclip.evaluation.scoring import ViewOutputs, score_views
from kinoclip.methods.text4vis import convert_text4vis
from kinoclip.methods.text4vis.convert_text4vis import _vision_to_transformers
from kinoclip.methods.text4vis.modeling_text4vis import TemporalVisionModel
from kinoclip.methods.text4vis.resnet import ResNetVisionModel
from kinoclip.modeling.checkpoints import head_to_transformers
from kinoclip.modeling.outputs import TextFeatures

from .conftest import reload

# the goldens were made in float32 on one thread; logits are scaled by 100, which scales their rounding too
EXACT = {"atol": 1e-5, "rtol": 1e-5}
SCALED = {"atol": 1e-4, "rtol": 1e-5}

# of `train.py`: a vision tower and a head; the text tower is that of the CLIP that training started from
CLASSIFIERS = ["none", "transf", "tsm", "tokenshift", "tokent1d", "joint", "rn_transf", "rn_tsm"]
# what no weight tells
FIELDS = {"tokenshift": {"temporal_shift": "token_shift"}}


def _convert(golden, folder, **fields):
    """Convert the official checkpoint, with its text tower where the golden has one, save it, and load it again."""
    clip = None
    if "clip_text" in golden.checkpoints:
        clip = folder / "clip.pt"
        torch.save(golden.checkpoints["clip_text"]["state_dict"], clip)
    return reload(convert_text4vis(golden.write(folder), clip, **fields), folder / "text4vis")


def _gradients(model, official, prefix="grad."):
    """Give our gradients and the recorded ones, under our names."""
    recorded = {name.removeprefix(prefix): t for name, t in official.items() if name.startswith(prefix)}
    head = {name.removeprefix("fusion_model."): t for name, t in recorded.items() if name.startswith("fusion_model.")}
    expected = _vision_to_transformers(recorded) | head_to_transformers(head)
    expected["logit_scale"] = recorded["logit_scale"]
    parameters = dict(model.named_parameters())
    return {name: parameters[name].grad for name in expected}, expected


@pytest.fixture(scope="module", params=CLASSIFIERS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def golden(load_golden, name):
    return load_golden(f"text4vis_{name}")


@pytest.fixture(scope="module")
def model(golden, name, tmp_path_factory):
    return _convert(golden, tmp_path_factory.mktemp("text4vis"), **FIELDS.get(name, {}))


@pytest.fixture
def inputs(golden, model):
    if model.config.text_tower:
        text = {"input_ids": golden.inputs["class_token_ids"][None]}
    else:
        text = {"text_features": TextFeatures(embeds=golden.outputs["class_embeddings"][None])}
    return {"pixel_values_videos": golden.pixels(), **text}


def test_features_and_scores_are_the_official_ones(model, inputs, golden):
    official = golden.outputs
    with torch.no_grad():
        output = model.eval()(**inputs)
    torch.testing.assert_close(output.text.embeds[0], official["class_embeddings"], **EXACT)
    if golden.config["joint"]:
        assert output.frames.embeds.shape[1] == 1
    else:
        torch.testing.assert_close(output.frames.embeds, official["frame_features"], **EXACT)
    torch.testing.assert_close(output.video_embeds, official["video_embedding"], **EXACT)
    # the official test scripts multiply by 100
    torch.testing.assert_close(output.votes["video"], official["similarity_100x"] / 100, **EXACT)
    torch.testing.assert_close(output.logits, official["logits_eval_forward"], **SCALED)


def test_training_loss_and_gradients_are_the_official_ones(model, inputs, golden):
    # in float64, because rounding of float32 differs between processors by 2e-5 in gradients
    model = copy.deepcopy(model).double()
    official = golden.outputs
    model.train()  # batch norms use the batch's own statistics
    model.freeze()
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].double()
    output = model(**inputs, labels=golden.inputs["labels"])
    output.loss.backward()
    torch.testing.assert_close(output.logits, official["train.logits"], check_dtype=False, **SCALED)
    torch.testing.assert_close(output.loss, official["train.loss"], check_dtype=False, **EXACT)
    found, expected = _gradients(model, official)
    torch.testing.assert_close(found, expected, check_dtype=False, **EXACT)


def test_the_weights_tell_the_variant(model, golden):
    config, official = model.config, golden.config
    assert config.temporal_head == {"None": "none", "Transf": "transformer"}[official["head"]]
    assert config.joint_space_time == official["joint"]
    shifts = {False: "none", True: "tsm", "tsm": "tsm", "tokenshift": "token_shift", "tokent1d": "token_t1d"}
    assert config.temporal_shift == shifts[official["tm"]]
    assert (config.resnet_layers is not None) == isinstance(official["vision_layers"], list)


@pytest.fixture
def contrastive(load_golden, tmp_path):
    """The checkpoint of `train_nce.py`, which holds its text tower."""
    golden = load_golden("text4vis_nce")
    return golden, _convert(golden, tmp_path)


def test_contrastive_features_and_probabilities_are_the_official_ones(contrastive):
    golden, model = contrastive
    with torch.no_grad():
        output = model(golden.pixels(), golden.inputs["class_token_ids"][None])
    torch.testing.assert_close(output.frames.embeds, golden.outputs["frame_features"], **EXACT)
    torch.testing.assert_close(output.video_embeds, golden.outputs["video_embedding"], **EXACT)
    torch.testing.assert_close((100 * output.votes["video"]).softmax(-1), golden.outputs["probs"], **EXACT)


def test_contrastive_loss_and_gradients_are_the_official_ones(contrastive):
    golden, model = contrastive
    official, labels = golden.outputs, golden.inputs["labels"]
    assert model.config.loss == "symmetric_kl"
    model.train()
    model.freeze()
    captions = golden.inputs["class_token_ids"][labels][None]
    output = model(golden.pixels(), captions, labels=labels, candidate_labels=labels)
    output.loss.backward()
    torch.testing.assert_close(output.logits, official["train.logits_per_image"], **SCALED)
    torch.testing.assert_close(output.loss, official["train.loss"], **EXACT)
    found, expected = _gradients(model, official, prefix="grad.model.")
    torch.testing.assert_close(found, expected, **EXACT)


def test_views_are_averaged_as_the_official_test_script_does(load_golden, tmp_path):
    golden, plain = load_golden("text4vis_multiview"), load_golden("text4vis_none")
    model = _convert(plain, tmp_path)
    videos, frames = len(golden.inputs["images"]), plain.config["T"]
    views = golden.inputs["images"].unflatten(1, (-1, frames, 3)).flatten(0, 1)
    with torch.no_grad():
        text = TextFeatures(embeds=golden.inputs["class_embeddings"][None])
        embeds = model(views, text_features=text).video_embeds
    torch.testing.assert_close(embeds, golden.outputs["view_embeddings"], **EXACT)
    outputs = ViewOutputs(video_embeds=embeds.unflatten(0, (videos, -1)), class_embeds=text.embeds[0])
    torch.testing.assert_close(score_views(outputs, "text4vis"), golden.outputs["final_scores"], **EXACT)


def _fill(tower, golden):
    """Give the first parts of a tower the recorded weights; the others are random and not used."""
    state = _vision_to_transformers(golden.checkpoints["checkpoint"]["model_state_dict"])
    report = tower.load_state_dict({n.removeprefix("vision_model."): t for n, t in state.items()}, strict=False)
    assert not report.unexpected_keys


def test_the_first_block_with_token_convolution_gives_the_official_class_tokens(load_golden):
    golden = load_golden("text4vis_tokent1d_block")
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1, "patch_size": 16}
    sizes |= {"num_hidden_layers": 1, "image_size": 32}
    recognizer = Text4VisConfig(temporal_shift="token_t1d", vision_config=sizes)
    tower = TemporalVisionModel(recognizer.vision_config, recognizer)
    _fill(tower, golden)
    frames = golden.pixels().flatten(0, 1)
    with torch.no_grad():
        tokens = tower.encoder.layers[0](tower.pre_layrnorm(tower.embeddings(frames)), None, num_frames=4)
    torch.testing.assert_close(tokens[:, 0], golden.outputs["dbg.vision.block0.cls"], **EXACT)


def test_the_stages_of_a_resnet_that_shifts_give_the_official_features(load_golden):
    golden = load_golden("text4vis_rn_tsm_stages")
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 0, "patch_size": 32, "image_size": 32}
    tower = ResNetVisionModel(CLIPVisionConfig(**sizes), layers=[1, 1, 1, 1], shift=True).eval()
    _fill(tower, golden)
    official = golden.outputs
    with torch.no_grad():
        hidden = [tower.stem(golden.pixels().flatten(0, 1))]
        for stage in tower.stages[:3]:
            hidden.append(stage[0](hidden[-1], num_frames=4))
    found = {f"dbg.vision.layer{i}.mean": features.mean((2, 3)) for i, features in enumerate(hidden) if i}
    torch.testing.assert_close(found, {name: official[name] for name in found}, **EXACT)
