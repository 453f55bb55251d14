"""SLLM against its official code (Text4Vis inside, r = 2), and against its paper's equations for r = 3 and 4."""

import pytest
import torch
from transformers import AutoModel

from kinoclip import SllmConfig, SllmModel
from kinoclip.conversion import clip_to_transformers, head_to_transformers
from kinoclip.methods import METHODS
from kinoclip.methods.sllm.convert_sllm import _restorer_to_transformers
from kinoclip.methods.sllm.modeling_sllm import restoration_kl
from kinoclip.outputs import TextFeatures
from kinoclip.video.sampling import split_kept_frames

# float32 on one thread; features are near 1, and video embeddings sum up to fifteen of them
EXACT = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def golden(load_golden):
    return load_golden("sllm_text4vis")


@pytest.fixture
def convert(golden, tmp_path):
    """Convert the official checkpoint, save it, and load it by the Auto class."""

    def build(**fields):
        clip = tmp_path / "clip_text.pt"
        torch.save(golden.checkpoints["clip_text"]["state_dict"], clip)
        converted = METHODS["sllm"].convert(golden.write(tmp_path), clip, num_frames=golden.config["T"], **fields)
        converted.save_pretrained(tmp_path / "sllm")
        return AutoModel.from_pretrained(tmp_path / "sllm").eval()

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
        left_first, right_first = model.restorer.directions(frames.embeds[:, ::2])
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
    model, official = convert(), golden.outputs
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


@pytest.fixture
def restorer(load_golden):
    """The recorded restorer around a recognizer of random weights, and what was recorded of it."""
    golden = load_golden("sllm_restorer")
    official = {
        n: t for n, t in golden.checkpoints["checkpoint"]["model_state_dict"].items() if n.startswith("restore_")
    }
    width = golden.outputs["kept_features"].shape[-1]
    vision = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 32, "patch_size": 16}
    text = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    towers = {"text_config": text, "vision_config": vision, "projection_dim": width}

    def build(rate):
        model = SllmModel(SllmConfig.from_clip_fields(towers, recognizer="text4vis", rate=rate))
        report = model.load_state_dict(_restorer_to_transformers(official), strict=False)
        assert not report.unexpected_keys
        assert not [name for name in report.missing_keys if name.startswith("restorer.")]
        return model.eval()

    return build, golden.outputs


@pytest.mark.parametrize(
    ("rate", "key"), [(2, "fused_sequence"), (3, "derived_r3.fused_sequence"), (4, "derived_r4.fused_sequence")]
)
def test_the_recorded_restorer_fills_every_gap(restorer, rate, key):
    build, official = restorer
    model, fused = build(rate), official[key]
    kept = fused[:, ::rate]
    with torch.no_grad():
        restored = model.restorer(kept, torch.arange(1, rate) / rate)
    torch.testing.assert_close(restored, fused[:, :-1].unflatten(1, (-1, rate))[:, :, 1:], **EXACT)


def test_the_restoration_loss_of_recorded_features_is_the_official_one(restorer):
    _, official = restorer
    restored, targets = (official[f"train_{kind}_features"].flatten(0, -2) for kind in ("restored", "target"))
    torch.testing.assert_close(restoration_kl(restored, targets), official["train_loss_kl"], **EXACT)
