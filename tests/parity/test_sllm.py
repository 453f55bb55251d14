"""SLLM against its official code (Text4Vis inside, r = 2), and against its paper's equations for r = 3 and 4."""

import copy
from functools import cache

import pytest
import torch

from kinoclip import SllmModel
from kinoclip.methods import METHODS
from kinoclip.methods.sllm.convert_sllm import _restorer_to_transformers
from kinoclip.methods.sllm.restorers import directions
from kinoclip.modeling.checkpoints import clip_to_transformers, head_to_transformers
from kinoclip.modeling.outputs import TextFeatures
from kinoclip.video.sampling import split_kept_frames

from .conftest import reload

# float32 on one thread; features are near 1, and video embeddings sum up to fifteen of them
EXACT = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def golden(load_golden):
    return load_golden("sllm_text4vis")


@pytest.fixture(scope="module")
def convert(golden, tmp_path_factory):
    """Convert the official checkpoint, save it, and load it by the Auto class, once for the same fields."""

    @cache
    def build(**fields):
        folder = tmp_path_factory.mktemp("sllm")
        clip = folder / "clip_text.pt"
        torch.save(golden.checkpoints["clip_text"]["state_dict"], clip)
        converted = METHODS["sllm"].convert(golden.write(folder), clip, num_frames=golden.config["T"], **fields)
        return reload(converted, folder / "model")

    return build


def kept_pixels(golden, rate):
    frames = golden.inputs["frames"]
    return frames[:, split_kept_frames(frames.shape[1], rate)[0]]


def as_text(golden):
    return TextFeatures(embeds=golden.inputs["text_features"][None])


def test_the_official_text_features_come_from_the_given_clip(golden, convert):
    text = convert().encode_text(golden.inputs["token_ids"][None])
    torch.testing.assert_close(text.embeds[0].detach(), golden.inputs["text_features"], **EXACT)


def test_kept_and_restored_frames_are_the_official_ones(golden, convert):
    model, official = convert(), golden.outputs
    with torch.no_grad():
        frames = model.encode_frames(kept_pixels(golden, 2))
        left_first, right_first = directions(model.restorer.mix, "mean", frames.embeds[:, ::2])
    torch.testing.assert_close(frames.embeds, official["fused_sequence"], **EXACT)
    torch.testing.assert_close(frames.embeds[:, ::2], official["kept_features"], **EXACT)
    torch.testing.assert_close(frames.embeds[:, 1::2], official["restored_features"], **EXACT)
    torch.testing.assert_close(left_first, official["h_left_right_tokens"].mean(-2), **EXACT)
    torch.testing.assert_close(right_first, official["h_right_left_tokens"].mean(-2), **EXACT)


def test_video_and_scores_are_the_official_ones(golden, convert):
    with torch.no_grad():
        output = convert()(kept_pixels(golden, 2), text_features=as_text(golden))
    torch.testing.assert_close(output.video_embeds, golden.outputs["video_embedding"], atol=2e-5, rtol=1e-5)
    # the official score is a hundred times the cosine
    torch.testing.assert_close(100 * output.votes["video"], golden.outputs["similarity_100"], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("rate", [3, 4])
def test_larger_rates_follow_the_equations_of_the_paper(golden, convert, rate):
    model, derived = convert(rate=rate), golden.outputs
    with torch.no_grad():
        output = model(kept_pixels(golden, rate), text_features=as_text(golden))
    torch.testing.assert_close(output.frames.embeds, derived[f"derived_r{rate}.fused_sequence"], **EXACT)
    torch.testing.assert_close(output.video_embeds, derived[f"derived_r{rate}.video_embedding"], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("rate", [3, 4])
def test_one_restored_frame_per_gap_follows_the_paper(golden, convert, rate):
    model = convert(rate=rate, restored_per_gap="one")
    with torch.no_grad():
        video = model(kept_pixels(golden, rate), text_features=as_text(golden)).video_embeds
    expected = golden.outputs[f"derived_r{rate}.one_restored_video_embedding"]
    torch.testing.assert_close(video, expected, atol=2e-5, rtol=1e-5)


def recorded_gradients(official):
    """Return every recorded gradient under the name that its weight has here."""
    recorded = {name.removeprefix("grad."): t for name, t in official.items() if name.startswith("grad.")}
    restorer = _restorer_to_transformers({n: t for n, t in recorded.items() if n.startswith("restore")})
    head = {n.removeprefix("fusion_model."): t for n, t in recorded.items() if n.startswith("fusion_model.")}
    clip = {n: t for n, t in recorded.items() if n.startswith("visual.") or n == "logit_scale"}
    inside = head_to_transformers(head) | clip_to_transformers(clip)
    expected = restorer | {f"recognizer.{name}": tensor for name, tensor in inside.items()}
    assert len(expected) >= len(recorded)
    return expected


def test_losses_and_gradients_are_the_official_ones(golden, convert):
    model, official = copy.deepcopy(convert()), golden.outputs
    discarded = golden.inputs["frames"][:, split_kept_frames(golden.config["T"], 2)[1]]
    labels = golden.inputs["labels"]
    model.train()
    output = model(
        kept_pixels(golden, 2), text_features=as_text(golden), labels=labels, discarded_pixel_values=discarded
    )
    output.loss.backward()
    torch.testing.assert_close(output.losses["restoration"], official["train_loss_kl"], **EXACT)
    torch.testing.assert_close(output.losses["video"], official["train_loss_ce"], **EXACT)
    torch.testing.assert_close(output.loss, official["train_total_loss"], **EXACT)
    expected = recorded_gradients(official)
    gradients = {name: model.get_parameter(name).grad for name in expected}
    for name in [name for name in expected if "position_embedding" in name]:
        gradients[name] = gradients[name][: len(expected[name])]
    torch.testing.assert_close(gradients, expected, **EXACT)


def test_a_frozen_copy_in_place_of_restoration_sees_every_frame(golden, convert):
    model = convert()
    whole = SllmModel.from_recognizer(model.recognizer, restoration="frozen_encoder", num_frames=8).eval()
    with torch.no_grad():
        frames = whole.encode_frames(golden.inputs["frames"])
        plain = model.recognizer.encode_frames(golden.inputs["frames"])
    # the copy holds the same weights, and the eighth frame is the dropped tail
    torch.testing.assert_close(frames.embeds, plain.embeds[:, :7], **EXACT)
