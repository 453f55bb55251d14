"""What every recognizer gives, and what it refuses."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kinoclip.inference.computing import encode_on_cores
from kinoclip.outputs import FrameFeatures, TextFeatures

# the sums of a larger batch are taken in another order; logits are up to 15 here, so this is a few units of rounding
ORDER = {"atol": 2e-5, "rtol": 1e-5}


@pytest.fixture
def output(model, inputs):
    with torch.no_grad():
        return model(**inputs)


def test_logits_are_one_row_per_video_and_one_column_per_candidate(output, recognizer):
    assert output.logits.shape == (2, 3)
    assert {vote.shape for vote in output.votes.values()} == {(2, 3)}
    assert output.frames.embeds.shape == (2, recognizer.sequence, 32)
    assert output.text.embeds.shape == (1, 3, 32)
    assert output.video_embeds.shape in {(2, 32), (2, 3, 32)}


def test_without_labels_there_is_no_loss(output):
    assert output.loss is None
    assert output.losses is None


def test_logits_of_one_branch_are_its_scaled_votes(model, inputs):
    for further in ("attribute_input_ids", "chinese_input_ids"):
        inputs.pop(further, None)
    output = model(**inputs)
    assert torch.equal(output.logits, model.scales()["video"] * output.votes["video"])


def test_logits_of_several_branches_are_their_weighed_mean_or_the_log_of_that_of_probabilities(model, output):
    scales = model.scales()
    share = {name: model.config.fusion[name] if len(output.votes) > 1 else 1 for name in output.votes}
    assert sum(share.values()) == 1
    if model.config.fusion_rule == "scores":
        expected = sum(share[name] * scales[name] * vote for name, vote in output.votes.items())
        torch.testing.assert_close(output.logits, expected, **ORDER)
        return
    expected = sum(share[name] * (scales[name] * vote).softmax(-1) for name, vote in output.votes.items())
    torch.testing.assert_close(output.logits.softmax(-1), expected, atol=1e-6, rtol=1e-5)


def test_probabilities_sum_to_one(output):
    torch.testing.assert_close(output.logits.softmax(-1).sum(-1), torch.ones(2))


def test_text_features_handed_back_change_no_bit(model, inputs, output, candidates):
    rest = {name: tensor for name, tensor in inputs.items() if name not in candidates}
    with torch.no_grad():
        again = model(**rest, text_features=output.text)
    assert torch.equal(again.logits, output.logits)


def test_frame_features_handed_back_change_no_bit(model, inputs, output):
    del inputs["pixel_values_videos"]
    with torch.no_grad():
        again = model(**inputs, frame_features=output.frames)
    assert torch.equal(again.logits, output.logits)


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


@pytest.mark.parametrize("num_frames", [1, 3, 77])
def test_any_number_of_frames_works(recognizer, model, inputs, num_frames):
    if recognizer.max_frames is not None and num_frames > recognizer.max_frames:
        pytest.skip("it takes fewer frames")
    if recognizer.fixed_frames:
        pytest.skip("it takes as many frames as it was made for")
    inputs["pixel_values_videos"] = torch.randn(2, num_frames, 3, 32, 32)
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()


def test_more_frames_than_the_model_has_positions_for_are_refused(model, inputs, recognizer):
    if recognizer.max_frames is None:
        pytest.skip("it takes any number of frames")
    inputs["pixel_values_videos"] = torch.randn(1, recognizer.max_frames + 1, 3, 32, 32)
    inputs.pop("attribute_input_ids", None)
    with pytest.raises(ValueError, match="positions for 77 frames, but the video has"):
        model(**inputs)


def test_another_number_of_frames_than_the_model_was_made_for_is_refused(model, inputs, recognizer):
    if not recognizer.fixed_frames:
        pytest.skip("it takes any number of frames")
    inputs["pixel_values_videos"] = torch.randn(2, 5, 3, 32, 32)
    with pytest.raises(ValueError, match="between 4 frames, but the video has 5"):
        model(**inputs)


def test_saliency_is_a_distribution_over_frames(model, output):
    saliency = model.saliency(output.frames, output.text)
    if saliency is not None:
        assert saliency.shape == (2, 3, 4)
        torch.testing.assert_close(saliency.sum(-1), torch.ones(2, 3))


def test_threads_that_use_a_model_at_once_get_what_one_gets(model, inputs):
    """As `kinoclip classify` does with many videos."""
    model.eval()
    videos = [{**inputs, "pixel_values_videos": inputs["pixel_values_videos"] * scale} for scale in (1.0, 0.7, 0.4)]
    videos = [video for video in videos for _ in range(4)]

    @torch.inference_mode()
    def recognize(video):
        return model(**video).logits

    alone = [recognize(video) for video in videos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(recognize, videos))
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


@pytest.mark.parametrize("threads", [2, 3, 4, 16])
def test_frames_encoded_on_several_cores_are_those_of_one(model, inputs, threads):
    """Two videos of four frames: in two parts, whole, in four, and in eight with two threads each."""
    model.eval()
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values_videos": None}, "nothing to recognize"),
        ({"pixel_values_videos": torch.zeros(4, 3, 32, 32)}, r"shape \(B, T, 3, H, W\), not \(4, 3, 32, 32\)"),
        ({"pixel_values_videos": torch.zeros(1, 3, 4, 32, 32)}, r"shape \(B, T, 3, H, W\), not \(1, 3, 4, 32, 32\)"),
        (
            {"frame_features": FrameFeatures(embeds=torch.ones(2, 4, 32))},
            "both pixel_values_videos and frame_features",
        ),
        ({"labels": torch.tensor([0, 1, 2])}, r"labels of shape \(3,\).*2 videos and 3 candidates"),
        ({"labels": torch.zeros(2, 4)}, r"labels of shape \(2, 4\).*2 videos and 3 candidates"),
        (
            {"labels": torch.tensor([0, 1]), "candidate_labels": torch.tensor([0, 1])},
            r"candidate_labels of shape \(2,\).*3 candidates",
        ),
    ],
)
def test_a_missing_or_wrong_input_is_refused_in_one_clear_line(model, inputs, change, message):
    inputs.pop("attribute_input_ids", None)
    with pytest.raises(ValueError, match=message):
        model(**inputs | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": None, "word_mask": None}, "given no candidates"),
        ({"input_ids": torch.ones(3, 77, dtype=torch.long)}, r"shape \(P, K, L\).*not \(3, 77\)"),
        ({"text_features": TextFeatures(embeds=torch.ones(1, 3, 32))}, "both input_ids and text_features"),
        ({"attention_mask": torch.ones(3, 77)}, r"attention_mask has shape \(3, 77\).*\(1, 3, 77\)"),
        ({"word_mask": torch.ones(1, 2, 77)}, r"word_mask has shape \(1, 2, 77\).*\(1, 3, 77\)"),
    ],
)
def test_missing_or_wrong_text_is_refused_in_one_clear_line(model, inputs, candidates, change, message):
    inputs |= candidates
    for further in ("attribute_input_ids", "chinese_input_ids"):
        inputs.pop(further, None)
    with pytest.raises(ValueError, match=message):
        model(**inputs | change)


def test_attributes_of_another_number_of_videos_are_refused(model, inputs, extra):
    if not extra:
        pytest.skip("it has no further branch")
    inputs["attribute_input_ids"] = inputs["attribute_input_ids"][:1]
    with pytest.raises(ValueError, match="attribute_input_ids has 1 rows for 2 videos"):
        model(**inputs)
