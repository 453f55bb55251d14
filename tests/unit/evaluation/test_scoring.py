import math

import pytest
import torch

from kinoclip.evaluation.scoring import (
    ViewOutputs,
    score_actionclip,
    score_frame_vote,
    score_probability,
    score_text4vis,
    score_views,
)

LOG3 = math.log(3)


def test_probability_averages_the_probabilities_of_views():
    # Views give (3/4, 1/4) and (1/2, 1/2): mean (5/8, 3/8).
    scores = score_probability(torch.tensor([[[LOG3, 0.0], [0.0, 0.0]]]))
    assert scores.flatten().tolist() == pytest.approx([5 / 8, 3 / 8])


def test_the_length_of_a_class_embedding_does_not_count_for_text4vis():
    views, classes = torch.tensor([[[3.0, 1.0]]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    longer = score_text4vis(views, classes * torch.tensor([[1.0], [9.0]]))
    torch.testing.assert_close(longer, score_text4vis(views, classes))


def test_a_frame_vote_counts_the_frames_of_all_views():
    frames = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0)) / 50
    classes = torch.eye(5, 8)
    scores = score_views(ViewOutputs(frame_embeds=frames, class_embeds=classes), "frame_vote")
    torch.testing.assert_close(scores, score_frame_vote(frames.reshape(2, 12, 8), classes))


@pytest.mark.parametrize(
    "rule", ["probability", "bike", "bike_charades", "bike_attributes", "bike_fused", "text4vis", "frame_vote"]
)
def test_every_rule_gives_one_distribution_per_video(rule):
    noise = torch.Generator().manual_seed(0)
    views = ViewOutputs(
        logits=torch.randn(2, 3, 5, generator=noise),
        scores=torch.randn(2, 3, 5, generator=noise),
        attribute_scores=torch.randn(2, 5, generator=noise),
        video_embeds=torch.randn(2, 3, 8, generator=noise),
        frame_embeds=torch.randn(2, 3, 4, 8, generator=noise),
        class_embeds=torch.randn(5, 8, generator=noise),
    )
    scores = score_views(views, rule)
    assert scores.shape == (2, 5)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    ("rule", "missing"),
    [
        ("probability", "logits"),
        ("bike", "scores"),
        ("bike_attributes", "attribute_scores"),
        ("bike_fused", "scores"),
        ("text4vis", "video_embeds"),
        ("frame_vote", "frame_embeds"),
    ],
)
def test_a_rule_says_which_output_it_misses(rule, missing):
    with pytest.raises(ValueError, match=f"'{rule}' needs `{missing}`"):
        score_views(ViewOutputs(class_embeds=torch.eye(2)), rule)


def test_an_unknown_rule_is_an_error_that_lists_the_rules():
    with pytest.raises(ValueError, match=r"one of probability, logits, bike, bike_charades, .*, got 'vote'"):
        score_views(ViewOutputs(), "vote")


def test_attributes_are_fused_with_the_mean_probability_of_the_views():
    # views (3/4, 1/4) and (1/2, 1/2): mean (5/8, 3/8); attributes (1/4, 3/4): 0.7 * 5/8 + 0.3 * 1/4 = 0.5125
    views = ViewOutputs(scores=torch.tensor([[[LOG3, 0.0], [0.0, 0.0]]]), attribute_scores=torch.tensor([[0.0, LOG3]]))
    assert score_views(views, "bike_fused").flatten().tolist() == pytest.approx([0.5125, 0.4875])
    assert score_views(views, "bike_attributes").flatten().tolist() == pytest.approx([0.25, 0.75])


def test_actionclip_averages_the_probabilities_of_views():
    # cosines (log 3 / 100, 0) give (3/4, 1/4), and (0, 0) give (1/2, 1/2): mean (5/8, 3/8)
    views = torch.tensor([[[LOG3, 0.0, math.sqrt(100**2 - LOG3**2)], [0.0, 0.0, 1.0]]])
    scores = score_actionclip(views, torch.eye(3)[None, :2])
    assert scores.tolist() == [pytest.approx([5 / 8, 3 / 8])]


def test_tam_averages_logits_of_views_not_their_probabilities():
    logits = torch.tensor([[[4.0, 0.0], [0.0, 2.0]]])
    # mean logits 2 and 1
    torch.testing.assert_close(
        score_views(ViewOutputs(logits=logits), "logits"), torch.tensor([[2.0, 1.0]]).softmax(-1)
    )
