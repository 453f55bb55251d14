"""Every field of the config of BIKE."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from kinoclip import BikeModel
from kinoclip.modeling.losses import label_match, symmetric_cross_entropy, symmetric_kl

LABELS = ["red circle moving left", "square", "a blue triangle"]

EXACT = {"atol": 1e-6, "rtol": 1e-5}


@pytest.fixture
def build(make, tiny_fields):
    def build(**changes: Any) -> BikeModel:
        if changes.get("attributes") == "own":  # CLIP's default tower is a large one
            text = {**tiny_fields["text_config"], "hidden_size": 48, "intermediate_size": 48}
            changes = {"attribute_text_config": text, "attribute_projection_dim": 24, **changes}
        return make(BikeModel, **{"temporal_head": "none", **changes})

    return build


@pytest.fixture
def candidates(bike_processor) -> dict[str, Tensor]:
    return dict(
        bike_processor.__class__(bike_processor.video_processor, bike_processor.tokenizer, return_word_mask=True)(
            text=LABELS
        )
    )


@pytest.fixture
def run(build, pixels, candidates):
    """Run a BIKE without temporal head whose config has these changes."""

    def run(**changes: Any) -> Any:
        with torch.no_grad():
            return build(**changes)(pixels, **candidates)

    return run


def test_interaction_mean_averages_frames_and_saliency_weighs_them_per_candidate(run):
    mean, weighed = run(interaction="mean"), run()
    torch.testing.assert_close(mean.video_embeds, mean.frames.embeds.mean(1), **EXACT)
    assert weighed.video_embeds.shape == (2, 3, 32)


def _weights(frames: Tensor, queries: Tensor, temperature: float = 0.01) -> Tensor:
    """Compute the weight of each frame by (K, L, D) queries as in eq. 5."""
    products = torch.einsum("btd,kld->bklt", frames, queries)
    return (products / temperature).softmax(-1).mean(2)


def _pooled(run: Any, queries: Any, **changes: Any) -> tuple[Tensor, Tensor]:
    output = run(**changes)
    frames = normalize(output.frames.embeds, dim=-1)
    return output.video_embeds, torch.einsum("bkt,btd->bkd", _weights(frames, queries(output.text)), frames)


def test_saliency_query_sentence_weighs_frames_by_the_sentence(run):
    query = {"saliency_query": "sentence"}
    found, expected = _pooled(run, lambda text: normalize(text.embeds, dim=-1).transpose(0, 1), **query)
    torch.testing.assert_close(found, expected, **EXACT)


def test_saliency_words_label_needs_to_know_the_words(build, pixels, candidates):
    with pytest.raises(ValueError, match="needs `word_mask`"):
        build(saliency_words="label")(pixels, candidates["input_ids"])


def test_recognition_query_is_what_the_pooled_video_is_matched_with(run):
    sentence, words = run(), run(recognition_query="words")
    assert torch.equal(sentence.video_embeds, words.video_embeds)
    by_sentence = torch.einsum("bkd,kd->bk", sentence.video_embeds, normalize(sentence.text.embeds[0], dim=-1))
    by_words = torch.einsum("bkd,kd->bk", words.video_embeds, normalize(words.text.words, dim=-1).mean(1))
    torch.testing.assert_close(sentence.votes["video"], by_sentence, **EXACT)
    torch.testing.assert_close(words.votes["video"], by_words, **EXACT)


def test_recognition_by_words_reads_the_words_that_saliency_reads(run, candidates):
    output = run(recognition_query="words", saliency_words="label")
    words = normalize(output.text.words, dim=-1)
    own = torch.stack([words[k, candidates["word_mask"][0, k]].mean(0) for k in range(3)])
    expected = torch.einsum("bkd,kd->bk", output.video_embeds, own)
    torch.testing.assert_close(output.votes["video"], expected, **EXACT)


def test_a_high_saliency_temperature_weighs_all_frames_alike(run):
    output = run(saliency_temperature=1000)
    frames = normalize(output.frames.embeds, dim=-1).mean(1, keepdim=True)
    torch.testing.assert_close(output.video_embeds, frames.expand(-1, 3, -1), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "loss"),
    [
        ({}, symmetric_kl),
        ({"dual_softmax": True}, lambda logits, match: symmetric_kl(logits, match, use_dual_softmax=True)),
        ({"loss_targets": "uniform"}, symmetric_cross_entropy),
    ],
)
def test_loss_targets_and_dual_softmax_choose_the_loss(build, pixels, candidates, changes, loss):
    labels = torch.tensor([0, 1, 0])
    output = build(**changes)(pixels[[0, 1, 0]], **candidates, labels=labels, candidate_labels=labels)
    torch.testing.assert_close(output.loss, loss(output.logits, label_match(labels, labels)))


ATTRIBUTES = {
    "none": set(),
    "shared": {"sentence_fc", "query_fc", "logit_scale"},
    "own": {"sentence_fc", "query_fc", "logit_scale", "text_model", "text_projection"},
}


@pytest.mark.parametrize("attributes", ATTRIBUTES)
def test_attributes_decides_which_modules_the_second_branch_has(build, attributes):
    names = [name.split(".") for name, _ in build(attributes=attributes).named_parameters()]
    assert {name[1] for name in names if name[0] == "attributes"} == ATTRIBUTES[attributes]


def test_without_an_attributes_branch_attributes_are_refused(build, pixels, candidates):
    with pytest.raises(ValueError, match="no attributes branch"):
        build()(pixels, **candidates, attribute_input_ids=torch.ones(2, 77, dtype=torch.long))


def test_a_branch_with_its_own_tower_needs_features_from_that_tower(build, pixels, candidates):
    with torch.no_grad():
        text = build().encode_text(**candidates)
    with pytest.raises(ValueError, match="lack the attributes branch"):
        build(attributes="own")(pixels, text_features=text, attribute_input_ids=torch.ones(2, 77, dtype=torch.long))


TOWER = {"vision_model", "visual_projection", "logit_scale"}


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({}, TOWER),
        ({"temporal_head": "transformer"}, TOWER | {"temporal_head"}),
        ({"attributes": "own"}, TOWER),
        ({"freeze_text": False}, TOWER | {"text_model", "text_projection"}),
        ({"freeze_text": False, "attributes": "own"}, TOWER | {"text_model", "text_projection"}),
        ({"attributes": "shared", "train_branch": "attributes"}, {"attributes"}),
        ({"attributes": "own", "train_branch": "attributes"}, {"attributes"}),
    ],
)
def test_freeze_text_and_train_branch_decide_what_is_trained(build, changes, trained):
    model = build(**changes)
    model.freeze()
    assert {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad} == trained
