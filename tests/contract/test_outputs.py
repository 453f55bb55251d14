"""The outputs of every recognizer, and errors."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kinoclip.inference.encoding import encode_on_cores
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures

from .conftest import EVERY_KIND, RECOGNIZERS

# the sums of a larger batch are taken in another order; logits are up to 15 here, so this is a few units of rounding
ORDER = {"atol": 2e-5, "rtol": 1e-5}


@EVERY_KIND
def test_logits_are_one_row_per_video_and_one_column_per_candidate(output, recognizer):
    assert output.logits.shape == (2, 3)
    assert {vote.shape for vote in output.votes.values()} == {(2, 3)}
    assert output.frames.embeds.shape == (2, recognizer.sequence, 32)
    assert output.text.embeds.shape == (1, 3, 32)
    assert output.video_embeds.shape in {(2, 32), (2, 3, 32)}
    assert output.loss is output.losses is None


def test_logits_are_the_fused_votes(model, output):
    """The weighed mean of the scaled votes, or of their probabilities."""
    scaled = model.unwrap().scale_votes(output.votes, output.video_embeds, output.text)
    share = {name: model.config.fusion[name] if len(scaled) > 1 else 1 for name in scaled}
    assert sum(share.values()) == 1
    if model.config.fusion_rule == "scores":
        expected = sum(share[name] * scores for name, scores in scaled.items())
        torch.testing.assert_close(output.logits, expected, **ORDER)
        return
    expected = sum(share[name] * scores.softmax(-1) for name, scores in scaled.items())
    torch.testing.assert_close(output.logits.softmax(-1), expected, atol=1e-6, rtol=1e-5)


@EVERY_KIND
def test_text_features_passed_again_change_no_bit(model, inputs, output, candidates):
    rest = {name: tensor for name, tensor in inputs.items() if name not in candidates}
    with torch.no_grad():
        again = model(**rest, text_features=output.text)
    assert torch.equal(again.logits, output.logits)


@EVERY_KIND
def test_frame_features_passed_again_change_no_bit(model, inputs, output):
    del inputs["pixel_values_videos"]
    with torch.no_grad():
        again = model(**inputs, frame_features=output.frames)
    assert torch.equal(again.logits, output.logits)


@EVERY_KIND
def test_a_video_alone_gets_the_logits_it_gets_in_a_batch(model, inputs, output, candidates):
    alone = {name: tensor if name in candidates else tensor[1:] for name, tensor in inputs.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(**alone).logits, output.logits[1:], **ORDER)


def test_a_candidate_keeps_its_score_among_others(model, inputs, output, candidates):
    fewer = {name: tensor[:, :2] if name in candidates else tensor for name, tensor in inputs.items()}
    with torch.no_grad():
        votes = model(**fewer).votes
    expected = {name: vote[:, :2] for name, vote in output.votes.items()}
    torch.testing.assert_close(votes, expected, atol=1e-6, rtol=1e-5)


def test_two_equal_templates_give_what_one_gives(model, inputs, output, candidates):
    twice = {name: tensor.repeat(2, 1, 1) if name in candidates else tensor for name, tensor in inputs.items()}
    with torch.no_grad():
        again = model(**twice)
    torch.testing.assert_close(again.votes, output.votes, **ORDER)
    # a method may give logits of several templates that differ from one template's by a number for each video
    torch.testing.assert_close(again.logits.log_softmax(-1), output.logits.log_softmax(-1), **ORDER)


@pytest.mark.parametrize("num_frames", [1, 77])
@pytest.mark.parametrize("kind", [kind for kind, r in RECOGNIZERS.items() if not r.fixed_frames])
def test_any_number_of_frames_works(recognizer, model, inputs, num_frames):
    num_frames = min(num_frames, recognizer.max_frames or num_frames)
    inputs["pixel_values_videos"] = torch.randn(2, num_frames, 3, 32, 32)
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()


def test_saliency_is_a_distribution_over_frames(model, output):
    saliency = model.saliency(output.frames, output.text)
    if saliency is not None:
        assert saliency.shape == (2, 3, 4)
        torch.testing.assert_close(saliency.sum(-1), torch.ones(2, 3))


def test_threads_that_use_a_model_at_once_get_what_one_gets(model, inputs):
    """As `kinoclip classify` does with many videos."""
    videos = [{**inputs, "pixel_values_videos": inputs["pixel_values_videos"] * scale} for scale in (1.0, 0.7, 0.4)]
    videos = [video for video in videos for _ in range(4)]

    @torch.inference_mode()
    def recognize(video):
        return model(**video).logits

    alone = [recognize(video) for video in videos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(recognize, videos))
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


@pytest.mark.parametrize("threads", [2, 16])
def test_frames_encoded_on_several_cores_are_those_of_one(model, inputs, threads):
    """Two videos of four frames: in two parts, and in eight with two threads each."""
    pixels = inputs["pixel_values_videos"]
    pixels = torch.cat([pixels, pixels.flip(0, -1)])[:2]
    with torch.inference_mode():
        alone = model.encode_frames(pixels)
    torch.set_num_threads(threads)
    try:
        together = encode_on_cores(model, pixels)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)
    assert together.keys() == alone.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, atol=1e-5, rtol=1e-4)


def test_an_output_can_be_a_tuple(model, inputs, output):
    with torch.no_grad():
        assert torch.equal(model(**inputs, return_dict=False)[0], output.logits)


def test_an_unknown_input_is_refused_by_name(model, inputs):
    with pytest.raises(TypeError, match="does not use pixel_values"):
        model(**inputs, pixel_values=torch.zeros(1))


ONES = torch.ones(3, 77)


@pytest.mark.parametrize("kind", ["bike", "sllm_text4vis"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values_videos": None}, "nothing to recognize"),
        ({"pixel_values_videos": torch.zeros(4, 3, 32, 32)}, r"shape \(B, T, 3, H, W\), got \(4, 3, 32, 32\)"),
        ({"pixel_values_videos": torch.zeros(1, 3, 4, 32, 32)}, r"shape \(B, T, 3, H, W\), got \(1, 3, 4, 32, 32\)"),
        (
            {"frame_features": FrameFeatures(embeds=torch.ones(2, 4, 32))},
            "pixel_values_videos or frame_features, got both",
        ),
        ({"labels": torch.tensor([0, 1, 2])}, r"labels must be .*shape \(3,\) for 2 videos and 3 candidates"),
        ({"labels": torch.zeros(2, 4)}, r"labels must be .*shape \(2, 4\) for 2 videos and 3 candidates"),
        ({"labels": torch.arange(2), "candidate_labels": torch.arange(2)}, r"candidate_labels must .*\(2,\) for 3"),
        ({"input_ids": None, "word_mask": None}, "has no candidates"),
        ({"input_ids": ONES.long()}, r"shape \(P, K, L\).*got \(3, 77\)"),
        ({"text_features": TextFeatures(embeds=torch.ones(1, 3, 32))}, "input_ids or text_features, got both"),
        ({"attention_mask": ONES}, r"attention_mask has shape \(3, 77\).*\(1, 3, 77\)"),
        ({"word_mask": ONES[None, :2]}, r"word_mask has shape \(1, 2, 77\).*\(1, 3, 77\)"),
    ],
)
def test_a_missing_or_wrong_input_is_refused_in_one_clear_line(model, inputs, change, message):
    with pytest.raises(ValueError, match=message):
        model(**inputs | change)


@pytest.mark.parametrize("kind", ["bike_own_attributes", "sllm_branches"])
def test_attributes_of_another_number_of_videos_are_refused(model, inputs):
    inputs["attribute_input_ids"] = inputs["attribute_input_ids"][:1]
    with pytest.raises(ValueError, match="attribute_input_ids must have one row per video, got 1 rows for 2 videos"):
        model(**inputs)


@pytest.mark.parametrize("kind", ["actionclip", "alt_learned", "dstpr", "sllm_bike", "text4vis_joint", "xclip"])
def test_the_layers_of_the_vision_tower_can_be_returned_and_change_no_logit(model, inputs, output):
    with torch.no_grad():
        found = model(**inputs, output_hidden_states=True, output_attentions=True)
        last = model(**inputs, output_hidden_states=-1)
    torch.testing.assert_close(found.logits, output.logits, atol=1e-4, rtol=1e-4)  # attention runs as "eager"
    assert len(found.hidden_states) == len(found.attentions) + 1 == 3
    assert all(torch.allclose(weights.sum(-1), torch.ones(())) for weights in found.attentions)
    assert last.hidden_states[:2] == (None, None)
    assert torch.equal(last.logits, output.logits)
    assert "hidden_states" not in model(**inputs, output_hidden_states=False, output_attentions=None)


@pytest.mark.parametrize("kind", ["tam"])
def test_a_tower_without_such_layers_says_so(model, inputs):
    with pytest.raises(ValueError, match="has no transformer layers"):
        model(**inputs, output_attentions=True)


@EVERY_KIND
def test_videos_have_features_without_candidates(model, output, inputs):
    with torch.no_grad():
        features = model.get_video_features(inputs["pixel_values_videos"])
    assert torch.equal(features.last_hidden_state, output.frames.embeds)
    assert features.pooler_output.shape[0] == 2
    if output.video_embeds.ndim == 2:
        torch.testing.assert_close(features.pooler_output, output.video_embeds)


@pytest.mark.parametrize("kind", ["bike", "text4vis_joint", "text4vis_tsm"])
def test_images_have_features_where_frames_are_encoded_alone(model, pixels):
    if not model.encodes_frames_alone:
        with pytest.raises(ValueError, match="reads the frames of a video together"):
            model.get_image_features(pixels[:, 0])
        return
    with torch.no_grad():
        images = model.get_image_features(pixels[:, 0]).pooler_output
        torch.testing.assert_close(images, model.encode_frames(pixels).embeds[:, 0], atol=1e-5, rtol=1e-4)
