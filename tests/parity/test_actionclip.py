"""ActionCLIP against its official code, from the authors' checkpoint format through conversion and the Auto classes."""

import copy

import pytest
import torch

from kinoclip import ActionClipConfig, ActionClipModel
from kinoclip.evaluation.scoring import ViewOutputs, score_views
from kinoclip.methods.actionclip import convert_actionclip
from kinoclip.methods.actionclip.convert_actionclip import _head_to_transformers
from kinoclip.methods.actionclip.modeling_actionclip import match_templates
from kinoclip.modeling.checkpoints import clip_to_transformers
from kinoclip.modeling.losses import label_match, row_kl, symmetric_kl
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures

from .conftest import reload

# the goldens were made in float32 on one thread; logits are scaled by 100, which scales their rounding too
EXACT = {"atol": 1e-5, "rtol": 1e-5}
SCALED = {"atol": 1e-4, "rtol": 1e-5}

# official name of a golden, and the head and shift that conversion shall find in its checkpoint
WHOLE = {
    "actionclip_meanp": ("mean", "none"),
    "actionclip_transf": ("transformer", "none"),
    "actionclip_transf_cls": ("transformer_cls", "none"),
    "actionclip_lstm": ("lstm", "none"),
    "actionclip_conv1d": ("conv1d", "none"),
    "actionclip_tsm": ("transformer", "tsm"),
}


def _templates(golden, tensor):
    """Part (P * K, ...) rows, template by template."""
    return tensor.unflatten(0, (16, golden.config["C"]))


def _check_gradients(model, official, frames):
    """Compare every recorded gradient, under the name that its weight has here."""
    recorded = {name.removeprefix("grad."): t for name, t in official.items() if name.startswith("grad.")}
    clip = {n.removeprefix("model.").replace(".net.", "."): t for n, t in recorded.items() if n.startswith("model.")}
    head = {n.removeprefix("fusion.module."): t for n, t in recorded.items() if n.startswith("fusion.")}
    expected = clip_to_transformers(clip) | _head_to_transformers(head)
    assert len(expected) >= len(recorded) - 1 > 0  # the frame features are no parameter
    found = {name: dict(model.named_parameters())[name].grad for name in expected}
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(frames.embeds.grad, recorded["frame_features"], **EXACT)


@pytest.fixture(scope="module", params=WHOLE)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def golden(load_golden, name):
    return load_golden(name)


@pytest.fixture(scope="module")
def model(golden, tmp_path_factory):
    """The official checkpoint, converted, saved, and loaded again by the Auto class."""
    folder = tmp_path_factory.mktemp("actionclip")
    return reload(convert_actionclip(golden.write(folder), num_frames=4), folder / "model")


def test_the_head_and_the_shift_are_read_off_the_checkpoint(model, name):
    assert (model.config.temporal_head, model.config.temporal_shift) == WHOLE[name]


def test_features_scores_and_probabilities_are_the_official_ones(model, golden):
    official, ids = golden.outputs, _templates(golden, golden.inputs["class_token_ids"])
    with torch.no_grad():
        output = model(golden.inputs["pixel_values"], ids)
        scores = 100 * match_templates(output.video_embeds, output.text).transpose(0, 1)
    torch.testing.assert_close(output.frames.embeds, official["frame_features"], **EXACT)
    torch.testing.assert_close(output.video_embeds, official["video_embedding"], **EXACT)
    torch.testing.assert_close(output.text.embeds, _templates(golden, official["text_features"]), **EXACT)
    torch.testing.assert_close(scores.flatten(1), official["similarity_100"], **SCALED)
    torch.testing.assert_close(scores.softmax(-1), official["probs_per_prompt"], **EXACT)
    views = ViewOutputs(video_embeds=output.video_embeds[:, None], template_embeds=output.text.embeds)
    torch.testing.assert_close(score_views(views, "actionclip"), official["probs"], **EXACT)
    # votes are mean cosines, and logits the log of the mean probability at the learned scale
    cosines = official["similarity_100"].unflatten(1, (16, -1)) / 100
    torch.testing.assert_close(output.votes["video"], cosines.mean(1), **EXACT)
    probabilities = (model.logit_scale.exp() * cosines).softmax(-1).mean(1)
    torch.testing.assert_close(output.logits.exp(), probabilities, **EXACT)


def test_training_loss_and_gradients_are_the_official_ones(model, golden):
    model = copy.deepcopy(model)
    labels, official = golden.inputs["labels"], golden.outputs
    # recorded in eval mode: without the dropout of the class-token transformer
    captions = golden.inputs["train_token_ids"][None]
    output = model(golden.inputs["pixel_values"], captions, labels=labels, candidate_labels=labels)
    output.frames.embeds.retain_grad()
    output.loss.backward()
    torch.testing.assert_close(output.video_embeds, official["train_video_embedding"], **EXACT)
    torch.testing.assert_close(output.text.embeds[0], official["train_text_embedding"], **EXACT)
    torch.testing.assert_close(output.logits, official["train_logits_per_image"], **EXACT)
    torch.testing.assert_close(output.loss, official["train_total_loss"], **EXACT)
    _check_gradients(model, official, output.frames)


@pytest.mark.parametrize("head", ["lstm", "conv1d"])
def test_a_small_head_pools_scores_and_learns_from_recorded_features_as_the_official_one(load_golden, head):
    golden = load_golden(f"actionclip_{head}_head")
    official, labels = golden.outputs, golden.inputs["labels"]
    state = golden.checkpoints["checkpoint"]
    model = _head_alone(head, state["fusion_model_state_dict"], state["model_state_dict"]["logit_scale"])
    frames = FrameFeatures(embeds=official["frame_features"].clone().requires_grad_())
    text = TextFeatures(embeds=_templates(golden, official["text_features"]))

    scores = model(frame_features=frames, text_features=text)
    captions = TextFeatures(embeds=official["train_text_embedding"][None])
    training = model(frame_features=frames, text_features=captions, labels=labels, candidate_labels=labels)
    training.loss.backward()

    torch.testing.assert_close(scores.video_embeds, official["video_embedding"], **EXACT)
    cosines = official["similarity_100"].unflatten(1, (16, -1)) / 100
    torch.testing.assert_close(scores.votes["video"], cosines.mean(1), **EXACT)
    torch.testing.assert_close(training.loss, official["train_total_loss"], **EXACT)
    _check_gradients(model, official, frames)


def _head_alone(kind, weights, logit_scale):
    """An ActionCLIP whose temporal head holds the recorded weights; its towers are random and not used."""
    tower = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    ids = {"vocab_size": 100, "bos_token_id": 98, "eos_token_id": 99, "pad_token_id": 0}
    vision = {**tower, "image_size": 32, "patch_size": 16}
    shape = {"text_config": {**tower, **ids}, "vision_config": vision, "projection_dim": 32}
    model = ActionClipModel(ActionClipConfig(**shape, temporal_head=kind))
    head = _head_to_transformers({name.removeprefix("module."): tensor for name, tensor in weights.items()})
    report = model.load_state_dict(head | {"logit_scale": logit_scale}, strict=False)
    assert not report.unexpected_keys
    assert not [name for name in report.missing_keys if name.startswith("temporal_head")]
    return model.eval()


@pytest.fixture
def recorded_loss(load_golden):
    """The official loss on unit vectors alone, with repeated labels."""
    return load_golden("actionclip_loss")


def test_the_official_loss_and_its_gradients_are_the_symmetric_divergence(recorded_loss):
    inputs, official = recorded_loss.inputs, recorded_loss.outputs
    names = ("video_embedding", "text_embedding", "log_logit_scale")
    video, text, scale = (inputs[name].clone().requires_grad_() for name in names)
    match = label_match(inputs["labels"], inputs["labels"])
    logits = scale.exp() * match_templates(video, TextFeatures(embeds=text[None]))[0]
    loss = symmetric_kl(logits, match)
    loss.backward()
    torch.testing.assert_close(match, official["ground_truth"], **EXACT)
    torch.testing.assert_close(logits, official["logits_per_image"], **SCALED)
    torch.testing.assert_close(row_kl(logits, match), official["loss_img"], **EXACT)
    torch.testing.assert_close(row_kl(logits.T, match.T), official["loss_txt"], **EXACT)
    torch.testing.assert_close(loss, official["total_loss"], **EXACT)
    gradients = [tensor.grad for tensor in (video, text, scale)]
    torch.testing.assert_close(gradients, [official[f"grad.{name}"] for name in names], **EXACT)


def test_where_candidates_are_not_a_batch_the_official_loss_divides_by_columns_and_ours_by_rows(recorded_loss):
    prediction, label = recorded_loss.inputs["rect_prediction"], recorded_loss.inputs["rect_label"]
    expected = recorded_loss.outputs["rect_loss"] * 9 / 6
    torch.testing.assert_close(row_kl(prediction, label), expected, **EXACT)
