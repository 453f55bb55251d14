"""Explanations as plain data, with views, by label and by entity."""

import pytest
import torch

from kinoclip.explain.evidence import read_evidence
from kinoclip.modeling.outputs import Explanation

LABELS = ("diving", "archery", "juggling")


def test_saliency_averages_crops_and_joins_clips():
    # rows are crop 0 clip 0, crop 0 clip 1, crop 1 clip 0, crop 1 clip 1; one candidate, two frames
    saliency = torch.tensor([[[0.2, 0.8]], [[1.0, 0.0]], [[0.4, 0.6]], [[0.5, 0.5]]])
    found = read_evidence(Explanation(saliency=saliency), LABELS[:1], [0], num_clips=2)["saliency"]
    # (0.2 + 0.4) / 2 / 2 clips, (0.8 + 0.6) / 2 / 2, (1.0 + 0.5) / 2 / 2, (0.0 + 0.5) / 2 / 2
    assert found["diving"] == pytest.approx([0.15, 0.35, 0.375, 0.125])


def test_attention_is_that_of_the_first_crop_clip_behind_clip():
    attention = torch.arange(4.0)[:, None, None, None].expand(4, 2, 1, 1)
    found = read_evidence(Explanation(attention=attention), LABELS, [0], num_clips=2)["attention"]
    assert found.flatten().tolist() == [0, 0, 1, 1]


@pytest.fixture
def aligned() -> Explanation:
    """Two frames of three regions; the first frame shows two of them, the second the third too."""
    return Explanation(
        regions=torch.tensor([[[[0, 0], [1, 2]], [[2, 1], [1, 0]]]]),
        entities=torch.tensor([[[3, 3, 0], [3, 1, 0]]]),
        entity_scores=torch.tensor([[[0.2, 0.3, 0.4], [0.1, 0.9, 0.3]]]),
        entity_names=["water", "bow", "hand", "ball"],
    )


def test_entities_come_by_their_cosines_over_all_frames_with_those_of_each(aligned):
    entities = read_evidence(aligned, LABELS, [0])["entities"]
    # bow 0.9; water 0.4 + 0.3; ball 0.2 + 0.3 in the first frame and 0.1 in the second; no region shows a hand
    assert [*entities] == ["bow", "water", "ball"]
    assert entities["bow"] == pytest.approx([0.0, 0.9])
    assert entities["water"] == pytest.approx([0.4, 0.3])
    assert entities["ball"] == pytest.approx([0.5, 0.1])


def test_each_patch_names_the_entity_of_its_region(aligned):
    found = read_evidence(aligned, LABELS, [0])
    # of bow, water, ball: the regions are ball, ball, water, and then ball, bow, water
    assert found["entity_map"].tolist() == [[[2, 2], [2, 1]], [[1, 0], [0, 2]]]
    assert torch.equal(found["regions"], aligned.regions[0])


def test_the_five_best_entities_are_named_and_patches_of_others_are_not():
    explanation = Explanation(
        regions=torch.arange(6).view(1, 1, 2, 3),
        entities=torch.arange(6).view(1, 1, 6),
        entity_scores=torch.tensor([[[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]]),
        entity_names=[*"abcdef"],
    )
    found = read_evidence(explanation, LABELS, [0])
    assert [*found["entities"]] == [*"fedcb"]
    assert found["entity_map"].tolist() == [[[-1, 4, 3], [2, 1, 0]]]


def test_a_frame_that_is_aligned_as_a_whole_is_one_patch(aligned):
    aligned.entities, aligned.entity_scores = aligned.entities[..., :1], aligned.entity_scores[..., :1]
    assert read_evidence(aligned, LABELS, [0])["entity_map"].tolist() == [[[0]], [[0]]]


def test_agreement_is_the_probability_that_both_languages_give_to_the_same_labels():
    # two views: the means are (0.6, 0.3, 0.1) and (0.2, 0.7, 0.1)
    english = torch.tensor([[0.5, 0.4, 0.1], [0.7, 0.2, 0.1]])
    chinese = torch.tensor([[0.1, 0.8, 0.1], [0.3, 0.6, 0.1]])
    found = read_evidence(Explanation(english=english, chinese=chinese), LABELS, [1])
    assert found["languages"] == {
        "english": pytest.approx({"archery": 0.3}),
        "chinese": pytest.approx({"archery": 0.7}),
    }
    assert found["agreement"] == pytest.approx(0.2 + 0.3 + 0.1)
