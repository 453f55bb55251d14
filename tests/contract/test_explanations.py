"""The explanations of every recognizer, which change nothing."""

import pytest
import torch
from torch.nn import Module


@pytest.fixture
def explanation(model, output, pixels):
    return model.explain(output.frames, output.text, pixels)


def has_attention(model) -> bool:
    """Check whether the vision tower is a ViT."""
    return hasattr(getattr(model.unwrap(), "vision_model", None), "encoder")


def test_attention_is_a_distribution_over_the_patches_of_each_frame(model, explanation):
    if not has_attention(model):
        assert explanation.attention is None
        return
    # 32 pixels in patches of 16
    assert explanation.attention.shape == (2, 4, 2, 2)
    assert explanation.attention.min() >= 0
    torch.testing.assert_close(explanation.attention.sum((2, 3)), torch.ones(2, 4))


def test_saliency_is_what_the_recognizer_weighs_frames_with(model, output, explanation):
    expected = model.saliency(output.frames, output.text)
    if expected is None:
        assert explanation.saliency is None
        return
    assert torch.equal(explanation.saliency, expected)


def test_without_pixels_everything_but_attention_is_explained(model, output, explanation):
    again = model.explain(output.frames, output.text)
    assert again.attention is None
    assert [*again] == [name for name in explanation if name != "attention"]
    same = {
        name: torch.equal(value, explanation[name]) for name, value in again.items() if isinstance(value, torch.Tensor)
    }
    assert all(same.values()), same


def test_regions_are_tokens_of_their_frame(output, explanation):
    if output.frames.regions is None and explanation.entities is None:
        assert explanation.regions is None
    if explanation.regions is not None:
        assert explanation.regions.shape == (2, 4, 2, 2)
        used = [frame.unique() for frame in explanation.regions.flatten(0, 1)]
        # every token has a patch, so the patches are parted without a gap in the numbers
        assert all(torch.equal(tokens, torch.arange(len(tokens))) for tokens in used)


def test_entities_belong_to_regions_and_to_the_corpus(model, explanation):
    if explanation.entities is None:
        assert explanation.entity_names is None
        return
    tokens = 1 if explanation.regions is None else int(explanation.regions.max()) + 1
    assert explanation.entities.shape == explanation.entity_scores.shape == (2, 4, tokens)
    assert 0 <= explanation.entities.min() <= explanation.entities.max() < len(explanation.entity_names)
    assert explanation.entity_scores.abs().max() <= 1 + 1e-6


def test_both_languages_vote_where_there_is_a_branch_for_chinese(recognizer, output, explanation):
    if "chinese" not in output.votes:
        assert explanation.english is None
        assert explanation.chinese is None
        return
    for votes in (explanation.english, explanation.chinese):
        assert votes.shape == (2, 3)
        torch.testing.assert_close(votes.sum(-1), torch.ones(2))


def test_restored_frames_are_not_explained(recognizer, explanation):
    if recognizer.sequence <= 4:
        assert explanation.frames is None
        return
    rate = (recognizer.sequence - 1) // 3
    assert explanation.frames == [0, rate, 2 * rate, 3 * rate]


def test_explaining_leaves_logits_bit_identical_and_no_hook_or_gradient(model, inputs, output, pixels):
    explanation = model.explain(output.frames, output.text, pixels)
    assert not any(value.requires_grad for value in explanation.values() if isinstance(value, torch.Tensor))
    assert not any(_count_hooks(module) for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, output.logits)


def _count_hooks(module: Module) -> int:
    return len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)


def test_explaining_in_training_counts_no_frame_and_stays_in_training(fresh, output, pixels):
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    fresh.train().explain(output.frames, output.text, pixels)
    assert fresh.training
    torch.testing.assert_close(fresh.state_dict(), before, atol=0, rtol=0)
