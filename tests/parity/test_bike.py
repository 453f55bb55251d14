"""BIKE against its official code, from the authors' checkpoint format through conversion and the Auto classes."""

import copy

import pytest
import torch

from kinoclip import BikeConfig, BikeModel
from kinoclip.evaluation.scoring import ViewOutputs, score_bike, score_views
from kinoclip.methods.bike import convert_bike
from kinoclip.modeling.checkpoints import head_to_transformers
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures

from .conftest import reload, rename_bike

# the goldens were made in float32 on one thread; logits are scaled by 100, which scales their rounding too
EXACT = {"atol": 1e-5, "rtol": 1e-5}
SCALED = {"atol": 1e-4, "rtol": 1e-5}

VIDEO_GOLDENS = ["bike_vcs_none", "bike_vcs_transf", "bike_dp_none", "bike_dp_transf"]


def _check_gradients(model, official):
    """Compare every recorded gradient, under the name that its weight has here."""
    expected = rename_bike(official, "grad.")
    parameters = dict(model.named_parameters())
    gradients = {name: parameters[name].grad for name in expected}
    table = "temporal_head.position_embedding.weight"
    if table in gradients:  # only the rows of the T frames were recorded; the others are zero
        used = len(expected[table])
        assert not gradients[table][used:].any()
        gradients[table] = gradients[table][:used]
    torch.testing.assert_close(gradients, expected, **EXACT)


@pytest.fixture(scope="module", params=VIDEO_GOLDENS)
def video_golden(request, load_golden):
    return load_golden(request.param)


@pytest.fixture(scope="module")
def model(video_golden, tmp_path_factory):
    """The official checkpoint, converted, saved, and loaded again by the Auto class."""
    folder, config = tmp_path_factory.mktemp("bike"), video_golden.config
    interaction = {"DP": "mean", "VCS": "saliency"}[config["inter"]]
    converted = convert_bike(video_golden.write(folder), interaction=interaction, freeze_text=config["fix_text"])
    return reload(converted, folder / "model")


def test_features_saliency_and_scores_are_the_official_ones(model, video_golden):
    official = video_golden.outputs
    with torch.no_grad():
        output = model(video_golden.pixels(), video_golden.inputs["class_token_ids"][None])
        head_output, saliency = model.contextualize(output.frames), model.saliency(output.frames, output.text)
    torch.testing.assert_close(output.frames.embeds, official["frame_features"], **EXACT)
    torch.testing.assert_close(output.text.embeds[0], official["class_embeddings"], **EXACT)
    torch.testing.assert_close(output.votes["video"], official["logits"], **EXACT)
    # the official probabilities are the softmax of the unscaled scores
    torch.testing.assert_close(output.votes["video"].softmax(-1), official["probs"], **EXACT)
    torch.testing.assert_close(head_output, official["head_output"], **EXACT)
    if video_golden.config["inter"] == "DP":
        assert saliency is None
        return
    torch.testing.assert_close(output.text.words, official["token_embeddings"], **EXACT)
    torch.testing.assert_close(saliency.transpose(0, 1), official["vcs.saliency_abt"], **EXACT)
    torch.testing.assert_close(output.video_embeds.transpose(0, 1), official["vcs.video_embedding_abd"], **EXACT)


def test_training_loss_and_gradients_are_the_official_ones(model, video_golden):
    model = copy.deepcopy(model)
    labels, official = video_golden.inputs["labels"], video_golden.outputs
    model.train()
    model.freeze()
    captions = video_golden.inputs["class_token_ids"][labels][None]
    output = model(video_golden.pixels(), captions, labels=labels, candidate_labels=labels)
    output.loss.backward()
    torch.testing.assert_close(output.loss, official["train.loss"], **EXACT)
    torch.testing.assert_close(output.logits, official["train.logits_scaled"], **SCALED)
    _check_gradients(model, official)


def _head_alone(golden):
    """A BIKE whose temporal head holds the recorded weights; its towers are random and not used."""
    state = head_to_transformers(golden.checkpoints["checkpoint"]["fusion_model_state_dict"])
    width = state["temporal_head.position_embedding.weight"].shape[1]
    # both recordings are of a text tower 128 wide, so the head has two heads
    text = {"hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 100}
    ids = {"bos_token_id": 98, "eos_token_id": 99, "pad_token_id": 0}
    vision = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 32, "patch_size": 16}
    model = BikeModel(BikeConfig(text_config={**text, **ids}, vision_config=vision, projection_dim=width))
    report = model.load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    assert not [name for name in report.missing_keys if name.startswith("temporal_head")]
    return model.eval()


def test_the_head_has_the_tiny_layer_norm_epsilon_of_the_official_code(load_golden):
    golden = load_golden("bike_head_eps")
    model = _head_alone(golden)
    with torch.no_grad():
        frames = model.contextualize(FrameFeatures(embeds=golden.inputs["frame_features"]))
    # inputs are near 1e-4, where an epsilon of 1e-5 instead of 1e-12 changes the result by its own size
    scaled = frames / golden.meta["scale"]
    torch.testing.assert_close(scaled, golden.outputs["head_output_times_inverse_scale"], atol=1e-4, rtol=1e-5)


def test_head_saliency_scores_and_gradients_follow_from_recorded_features(load_golden):
    golden = load_golden("bike_vcs_transf_head")
    official, labels = golden.outputs, golden.inputs["labels"]
    model = _head_alone(golden)
    model.logit_scale.data = golden.checkpoints["checkpoint"]["model_state_dict"]["logit_scale"]
    frames = FrameFeatures(embeds=official["frame_features"])
    text = TextFeatures(embeds=official["class_embeddings"][None], words=official["token_embeddings"])
    with torch.no_grad():
        torch.testing.assert_close(model.contextualize(frames), official["head_output"], **EXACT)
        torch.testing.assert_close(model.saliency(frames, text).transpose(0, 1), official["vcs.saliency_abt"], **EXACT)
        scores = model(frame_features=frames, text_features=text).votes["video"]
    torch.testing.assert_close(scores, official["logits"], **EXACT)
    captions = TextFeatures(embeds=text.embeds[:, labels], words=text.words[labels])
    output = model(frame_features=frames, text_features=captions, labels=labels, candidate_labels=labels)
    output.loss.backward()
    torch.testing.assert_close(output.loss, official["train.loss"], **EXACT)
    _check_gradients(model, official)


def test_attributes_vote_and_fuse_as_in_the_official_code(load_golden, tmp_path):
    golden = load_golden("bike_attributes")
    official, inputs = golden.outputs, golden.inputs
    video, attributes = golden.write(tmp_path, "checkpoint_video"), golden.write(tmp_path, "checkpoint")
    model = convert_bike(video, attributes, train_branch="attributes")
    ids = inputs["class_token_ids"][None]
    with torch.no_grad():
        output = model(golden.pixels(), ids, attribute_input_ids=inputs["attribute_token_ids"])
    torch.testing.assert_close(output.votes["attributes"], official["attr.cosine_after_mlp"], **EXACT)
    votes = ViewOutputs(scores=output.votes["video"][:, None], attribute_scores=output.votes["attributes"])
    torch.testing.assert_close(score_views(votes, "bike_fused"), official["fused_scores"], **EXACT)
    torch.testing.assert_close(score_views(votes, "bike_attributes"), official["attr.scores_softmax"], **EXACT)
    labels = inputs["labels"]
    model.freeze()
    output = model(
        input_ids=ids[:, labels],
        attribute_input_ids=inputs["attribute_token_ids"],
        labels=labels,
        candidate_labels=labels,
    )
    output.loss.backward()
    torch.testing.assert_close(output.loss, official["train.loss"], **EXACT)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    recorded = {name.removeprefix("grad.head."): t for name, t in official.items() if name.startswith("grad.head.")}
    torch.testing.assert_close({name: gradients[f"attributes.{name}"] for name in recorded}, recorded, **EXACT)
    torch.testing.assert_close(gradients["attributes.logit_scale"], official["grad.model.logit_scale"], **EXACT)


def test_views_are_scored_as_in_the_official_test(load_golden, tmp_path):
    golden = load_golden("bike_multiview")
    model = convert_bike(load_golden("bike_vcs_none").write(tmp_path)).eval()
    frames = golden.config["T"]
    pixels = golden.pixels().unflatten(1, (-1, frames)).flatten(0, 1)
    with torch.no_grad():
        output = model(pixels, golden.inputs["class_token_ids"][None])
    torch.testing.assert_close(output.votes["video"], golden.outputs["view_logits"], **EXACT)
    views = output.votes["video"].unflatten(0, (golden.config["B"], -1))
    torch.testing.assert_close(score_bike(views), golden.outputs["final_scores"], **EXACT)
