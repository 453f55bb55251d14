"""How DSTPR weighs frames by words, votes in two languages, and what it trains."""

from functools import partial

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from torch.nn.functional import normalize

from kinoclip import DstprConfig, DstprModel, DstprProcessor
from kinoclip.modeling.losses import label_match, symmetric_cross_entropy, symmetric_kl
from kinoclip.modeling.outputs import FrameFeatures, RecognitionOutput, TextFeatures

EXACT = {"atol": 1e-5, "rtol": 1e-5}
LABELS = ["red circle moving left", "square", "a blue triangle"]
CHINESE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pad_token_id": 0,
}
# two Chinese texts of two and three tokens, and one of four; 0 is padding
CHINESE_IDS = torch.tensor([[[1, 7, 2, 0, 0], [1, 8, 9, 2, 0], [1, 5, 6, 7, 2]]])


@pytest.fixture
def build(make):
    return partial(make, DstprModel, chinese_text_config=CHINESE)


@torch.no_grad()
def _answer(model: DstprModel, features: tuple[FrameFeatures, TextFeatures], **inputs: Tensor) -> RecognitionOutput:
    frames, text = features
    return model(frame_features=frames, text_features=text, **inputs)


@pytest.fixture
def candidates(tiny_fields, tokenizer) -> dict[str, Tensor]:
    processor = DstprProcessor.for_config(DstprConfig(**tiny_fields), tokenizer, return_word_mask=True)
    return dict(processor(text=LABELS))


@pytest.fixture
def features() -> tuple[FrameFeatures, TextFeatures]:
    """Features of two videos of four frames and three candidates of six words."""
    torch.manual_seed(2)
    text = TextFeatures(embeds=torch.randn(1, 3, 32), words=torch.randn(3, 6, 32))
    return FrameFeatures(embeds=torch.randn(2, 4, 32)), text


@pytest.fixture
def bilingual(features) -> tuple[FrameFeatures, TextFeatures]:
    """The same with Chinese names of five words."""
    frames, text = features
    text.branches = {"chinese": torch.randn(1, 3, 32), "chinese_words": torch.randn(5, 3, 32)}
    return frames, text


def _pool_by_hand(frames: Tensor, words: Tensor) -> Tensor:
    """Eq. 6 and 7 as printed, video by video and candidate by candidate."""
    frames, words = normalize(frames, dim=-1), normalize(words, dim=-1)
    video = torch.zeros(len(frames), len(words), frames.shape[-1])
    for b, of_video in enumerate(frames):
        for k, of_text in enumerate(words):
            weights = torch.stack([(of_video @ word / 0.01).softmax(0) for word in of_text]).mean(0)
            video[b, k] = weights @ of_video
    return video


def test_without_words_frames_are_averaged_and_only_the_end_of_a_text_is_read(build, pixels, candidates):
    with torch.no_grad():
        output = build(frame_aggregation="mean")(pixels, **candidates)
    assert output.text.words is None
    torch.testing.assert_close(output.video_embeds, output.frames.embeds.mean(1))


@pytest.mark.parametrize("tokens", ["valid", "label"])
def test_only_the_positions_that_are_chosen_weigh_the_frames(build, pixels, candidates, tokens):
    model, ids = build(word_tokens=tokens), candidates["input_ids"][0]
    with torch.no_grad():
        output = model(pixels, **candidates)
    end = ids.argmax(-1)  # the end token has the highest id
    kept = {"valid": lambda row: slice(0, end[row] + 1), "label": lambda row: candidates["word_mask"][0, row]}[tokens]
    rows = [_pool_by_hand(output.frames.embeds, output.text.words[row, kept(row)][None]) for row in range(3)]
    torch.testing.assert_close(output.video_embeds, torch.cat(rows, 1), **EXACT)


def test_the_words_of_the_label_must_be_marked(build, pixels, candidates):
    del candidates["word_mask"]
    with pytest.raises(ValueError, match="make the inputs with the DSTPR processor"):
        build(word_tokens="label")(pixels, **candidates)


def test_the_temperature_divides_weights_and_answer(build, features):
    sharp, soft = (_answer(build(temperature=t), features) for t in (0.01, 1.0))
    assert torch.equal(soft.logits, soft.votes["video"])
    torch.testing.assert_close(sharp.logits, 100 * sharp.votes["video"])
    assert not torch.allclose(sharp.video_embeds, soft.video_embeds, atol=0.1)


def test_the_chinese_vote_scores_what_the_english_words_weighed(build, bilingual):
    frames, text = bilingual
    output = _answer(build(chinese_branch=True), bilingual)
    names = normalize(text.branches["chinese"][0], dim=-1)
    expected = torch.einsum("bkd,kd->bk", _pool_by_hand(frames.embeds, text.words), names)
    torch.testing.assert_close(output.votes["chinese"], expected, **EXACT)


def test_chinese_words_can_weigh_the_frames_for_the_chinese_vote(build, bilingual):
    frames, text = bilingual
    text.branches["chinese_words"][3:, 1] = 0  # the second text has three words
    output = _answer(build(chinese_branch=True, chinese_word_weights=True), bilingual)
    names, words = normalize(text.branches["chinese"][0], dim=-1), text.branches["chinese_words"].transpose(0, 1)
    rows = [_pool_by_hand(frames.embeds, words[k : k + 1, : 3 if k == 1 else 5]) for k in range(3)]
    torch.testing.assert_close(output.votes["chinese"], torch.einsum("bkd,kd->bk", torch.cat(rows, 1), names), **EXACT)
    english = torch.einsum("bkd,kd->bk", _pool_by_hand(frames.embeds, text.words), normalize(text.embeds[0], dim=-1))
    torch.testing.assert_close(output.votes["video"], english, **EXACT)


def test_padding_of_chinese_words_does_not_count_in_half_precision_either(build, bilingual):
    frames, text = bilingual
    text.branches["chinese_words"][3:, 1] = 0
    model = build(chinese_branch=True, chinese_word_weights=True)
    expected = _answer(model, bilingual).votes["chinese"]
    branches = {name: tensor.half() for name, tensor in text.branches.items()}
    half = TextFeatures(embeds=text.embeds.half(), words=text.words.half(), branches=branches)
    found = _answer(model.half(), (FrameFeatures(embeds=frames.embeds.half()), half))
    # half precision has 11 bits: cosines over 0.01 are off by up to 0.05, and the weights by as much of themselves
    torch.testing.assert_close(found.votes["chinese"].float(), expected, atol=0.02, rtol=0)


def test_chinese_words_are_encoded_with_their_names_and_a_mask(build, candidates):
    model = build(chinese_branch=True, chinese_word_weights=True)
    with torch.no_grad():
        branches = model.encode_text(**candidates, chinese_input_ids=CHINESE_IDS).branches
    assert branches["chinese_words"].shape == (5, 3, 32)
    torch.testing.assert_close(branches["chinese_words"][:1], branches["chinese"])  # the first position is the name's
    assert torch.equal(branches["chinese_word_mask"][..., 0].T > 0, CHINESE_IDS[0] > 0)
    assert torch.equal(branches["chinese_named"][0, :, 0] > 0, (CHINESE_IDS[0] > 0).any(1))


def test_the_answer_is_the_weighed_mean_of_both_scores(build, bilingual):
    output = _answer(build(chinese_branch=True, fusion_weight=0.3), bilingual)
    torch.testing.assert_close(output.logits, 30 * output.votes["video"] + 70 * output.votes["chinese"], **EXACT)


def test_attributes_keep_the_share_that_they_have_in_bike(tiny_fields):
    config = DstprConfig(**tiny_fields, attributes="shared", chinese_branch=True, fusion_weight=0.5)
    assert config.fusion == pytest.approx({"video": 0.35, "chinese": 0.35, "attributes": 0.3})


def _loss_by_hand(scores: Tensor, labels: list[int]) -> Tensor:
    """Eq. 15 with its brackets: scores (B, B) of texts (rows) and videos, each row's mean over its matches."""
    total = torch.zeros(())
    for direction in (scores, scores.T):
        for i, row in enumerate(direction / 0.01):
            matches = [k for k, label in enumerate(labels) if label == labels[i]]
            total -= row.log_softmax(0)[matches].mean() / len(labels)
    return total / 2


def test_the_loss_is_the_sum_over_languages_of_the_symmetric_one_with_several_matches(build, bilingual):
    frames, _ = bilingual
    frames.embeds = torch.cat([frames.embeds, frames.embeds.flip(1)])[:3]
    labels = [4, 0, 4]
    ids = torch.tensor(labels)
    output = _answer(build(chinese_branch=True), bilingual, labels=ids, candidate_labels=ids)
    expected = {name: _loss_by_hand(vote.T, labels) for name, vote in output.votes.items()}
    torch.testing.assert_close(output.losses, expected, atol=1e-4, rtol=1e-5)  # logits are up to 100
    torch.testing.assert_close(output.loss, expected["video"] + expected["chinese"], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("targets", "loss"), [("uniform", symmetric_cross_entropy), ("softmax", symmetric_kl)])
def test_targets_can_be_those_of_bikes_code(build, features, targets, loss):
    labels = torch.tensor([0, 2])
    output = _answer(build(loss_targets=targets), features, labels=labels)
    torch.testing.assert_close(output.loss, loss(output.logits, label_match(labels, torch.arange(3))))


def test_only_prompts_are_trained_and_no_weight_of_either_clip_gets_a_gradient(build, pixels, candidates):
    model = build(chinese_branch=True, reparam_zero_init=False).train()
    model.freeze()
    labels = torch.tensor([2, 0])
    model(pixels, **candidates, chinese_input_ids=CHINESE_IDS, labels=labels).loss.backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in model.named_parameters() if not name.startswith("prompts.")}
    assert not [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.any()]


def test_the_projection_of_class_tokens_can_stay_as_it_starts(build):
    frozen = {name for name in build(freeze_cls_proj=True).freeze() if name.startswith("prompts.")}
    assert frozen == {f"prompts.layers.{i}.class_projection.{part}" for i in (0, 1) for part in ("weight", "bias")}


def test_a_learned_context_starts_as_the_words_and_moves_only_the_tokens_of_the_template(build, candidates):
    plain, model = build(), build(learnable_text_context=True)
    model.load_state_dict(plain.state_dict(), strict=False)
    embed, ids = model.text_model.embeddings, candidates["input_ids"][0]
    with torch.no_grad():
        before = embed(ids)
        assert torch.equal(before, plain.text_model.embeddings(ids))
        embed.text_context += 1
        # behind the start token: "this is a video about"
        assert (embed(ids) - before).abs().amax((0, 2)).nonzero().flatten().tolist() == [1, 2, 3, 4, 5]
    trained = set(dict(model.named_parameters())) - set(model.freeze())
    assert [name for name in trained if name.startswith("text_model.")] == ["text_model.embeddings.text_context"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0}, "temperature must be above 0"),
        ({"fusion_weight": 1.5}, "fusion_weight must be from 0 to 1, got 1.5"),
        ({"num_global_prompts": -1}, "num_global_prompts must be at least 0"),
        (
            {"class_prompts": False, "num_global_prompts": 0, "interchange": "none"},
            "needs a kind of prompts that is on",
        ),
        ({"prompt_layers": [0, 2]}, r"different numbers from 0 to 1, got \[0, 2\]"),
        ({"prompt_layers": [1, 1]}, r"got \[1, 1\]"),
        ({"st_kernel_spatial": 2}, "st_kernel_spatial must be odd"),
        ({"reparam": "lstm", "reparam_width": 31}, "a multiple of 2"),
        ({"reparam": "tada", "reparam_width": 6}, "a multiple of 4"),
        ({"chinese_word_weights": True}, "needs chinese_branch=True"),
        ({"interchange": "some"}, "interchange"),
    ],
)
def test_a_setting_that_is_not_allowed_is_refused_in_one_clear_line(tiny_fields, change, message):
    with pytest.raises(StrictDataclassError, match=message):
        DstprConfig(**{**tiny_fields, **change})


def test_the_processor_says_the_papers_sentence_and_marks_the_label_where_it_counts(tiny_fields, tokenizer):
    processor = DstprProcessor.for_config(DstprConfig(**tiny_fields), tokenizer)
    assert processor.templates == ["This is a video about {}"]
    assert "word_mask" not in processor(text=LABELS)
    processor = DstprProcessor.for_config(DstprConfig(**tiny_fields, word_tokens="label"), tokenizer)
    assert processor(text=LABELS)["word_mask"].shape == (1, 3, 77)


def test_the_share_of_english_names_follows_when_a_saved_config_is_changed(tiny_fields):
    saved = DstprConfig(**tiny_fields, chinese_branch=True).to_dict()
    assert DstprConfig(**{**saved, "fusion_weight": 0.8}).fusion == pytest.approx({"video": 0.8, "chinese": 0.2})


def test_the_share_of_english_names_follows_from_weights_that_are_given_alone(tiny_fields):
    config = DstprConfig(**tiny_fields, chinese_branch=True, fusion={"video": 3, "chinese": 1})
    assert config.fusion_weight == 0.75
    assert DstprConfig(**config.to_dict()).fusion == {"video": 3, "chinese": 1}


def test_weights_of_branches_that_contradict_the_share_are_refused(tiny_fields):
    fusion = {"video": 0.5, "chinese": 0.5}
    with pytest.raises(ValueError, match=r"fusion_weight must be 0\.5, .* got 0\.8"):
        DstprConfig(**tiny_fields, chinese_branch=True, fusion=fusion, fusion_weight=0.8)
    assert DstprConfig(**tiny_fields, chinese_branch=True, fusion=fusion, fusion_weight=0.5).fusion == fusion


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reparam", "mlp"),
        ("st_kernel_2d", False),
        ("st_mid", "width"),
        ("freeze_cls_proj", False),
        ("reparam_width", 32),
    ],
)
def test_a_preset_refuses_another_value_of_a_field_that_it_sets(tiny_fields, name, value):
    with pytest.raises(ValueError, match=f"{name} must be .* with reparam_preset='count_54M'"):
        DstprConfig(**tiny_fields, reparam_preset="count_54M", **{name: value})


def test_a_saved_preset_loads_as_it_was(tiny_fields, tmp_path):
    config = DstprConfig(**tiny_fields, reparam_preset="count_54M")
    config.save_pretrained(tmp_path)
    assert DstprConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    assert (config.reparam, config.st_kernel_2d, config.reparam_width) == ("r2plus1d", True, 21)  # 64 // 3


def test_frames_are_weighed_by_english_words_where_there_is_no_chinese_name(build, bilingual):
    _, text = bilingual
    text.branches["chinese"][:, 1] = 0
    text.branches["chinese_words"][:, 1] = 0
    output = _answer(build(chinese_branch=True, chinese_word_weights=True), bilingual)
    english, chinese = output.votes["video"], output.votes["chinese"]
    level = (chinese - english)[:, [0, 2]].mean(1)
    torch.testing.assert_close(chinese[:, 1], english[:, 1] + level, **EXACT)
    assert torch.equal(output.video_embeds[:, 1, :32], output.video_embeds[:, 1, 32:])
