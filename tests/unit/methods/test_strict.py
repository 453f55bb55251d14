"""The paper's letter of each method: what `strict_settings` changes, and the printed equations in plain torch."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from kinoclip import AltConfig, AltModel, BikeConfig, BikeModel, DstprConfig, DstprModel, SllmConfig, SllmModel
from kinoclip.methods import METHODS
from kinoclip.methods.alt.modeling_alt import assign_entities, compare_entities
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures

LABELS = torch.tensor([0, 1, 0])


@pytest.fixture
def features() -> tuple[FrameFeatures, TextFeatures]:
    """Three videos of four frames, and the three captions of their batch, with two to four words of their own."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(3, 77, dtype=torch.bool)
    for row, count in enumerate((2, 3, 4)):
        mask[row, 5 : 5 + count] = True
    frames = torch.randn(3, 4, 32, generator=generator)
    words = torch.randn(3, 77, 32, generator=generator)
    text = TextFeatures(embeds=torch.randn(1, 3, 32, generator=generator), words=words, word_mask=mask)
    return FrameFeatures(embeds=frames), text


@pytest.mark.parametrize("method", METHODS)
def test_strict_settings_are_exactly_what_differs_from_the_default(method):
    config_class = METHODS[method].config
    default, strict = config_class(), config_class(**config_class.strict_settings)
    changed = {name for name in config_class.settings() if getattr(default, name) != getattr(strict, name)}
    assert changed == set(config_class.strict_settings)


def _saliency(frames: Tensor, words: Tensor, mask: Tensor, temperature: float = 0.01) -> Tensor:
    """BIKE eq. 5 and DSTPR eq. 6 with loops: (B, K, T)."""
    rows = torch.empty(len(frames), len(words), frames.shape[1])
    for video, video_frames in enumerate(frames):
        for label, label_words in enumerate(words):
            own = label_words[mask[label]]
            rows[video, label] = sum((video_frames @ word / temperature).softmax(0) for word in own) / len(own)
    return rows


def _multi_positive(similarity: Tensor) -> Tensor:
    """BIKE eq. 7, where similarity (B, B) is divided by its temperature: mean over the matches of each row and column."""
    matches = (LABELS[:, None] == LABELS).float()
    shares = matches / matches.sum(1, keepdim=True)
    losses = [-(shares * s.log_softmax(1)).sum(1).mean() for s in (similarity, similarity.T)]
    return sum(losses) / 2


def test_strict_bike_is_equations_5_to_8(tiny_fields, features):
    frames, text = features
    torch.manual_seed(0)
    fields = {**tiny_fields, "temporal_head": "none", "attributes": "shared", "attribute_head": "none"}
    model = BikeModel(BikeConfig(**fields, **BikeConfig.strict_settings)).eval()
    sentences = torch.randint(1, 40, (3, 77), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = model(
            frame_features=frames,
            text_features=text,
            attribute_input_ids=sentences,
            labels=LABELS,
            candidate_labels=LABELS,
        )
        attributes = normalize(model.encode_text(sentences[None]).embeds[0], dim=-1)
    weights = _saliency(frames.embeds, text.words, text.word_mask)
    video = torch.einsum("bkt,btd->bkd", weights, frames.embeds)  # eq. 6: the frames as they are
    names = normalize(text.embeds[0], dim=-1)
    by_video = torch.einsum("bkd,kd->bk", normalize(video, dim=-1), names)
    by_attributes = attributes @ names.T
    scale = math.exp(model.config.logit_scale_init_value)
    torch.testing.assert_close(output.votes, {"video": by_video, "attributes": by_attributes})
    torch.testing.assert_close(output.logits, scale * (0.7 * by_video + 0.3 * by_attributes))  # eq. 4
    expected = _multi_positive(scale * by_video) + _multi_positive(scale * by_attributes)  # eq. 9
    torch.testing.assert_close(output.loss, expected, atol=1e-5, rtol=1e-5)


def test_strict_alt_shares_tokens_by_equation_4(tiny_fields):
    config = AltConfig(**tiny_fields, merge_r=1, **AltConfig.strict_settings)
    tokens, corpus = torch.randn(2, 5, 32), torch.randn(7, 32)
    torch.manual_seed(3)
    temperature = config.alignment_tau / config.alignment_logit_scale
    found = assign_entities(compare_entities(tokens, corpus), temperature, noise=True, hard=False)
    torch.manual_seed(3)
    gumbel = -torch.empty(2, 5, 7).exponential_().log()
    cosines = torch.einsum("bid,kd->bik", normalize(tokens, dim=-1), normalize(corpus, dim=-1))
    powers = (cosines / 1.0 + gumbel).exp()  # tau is 1
    torch.testing.assert_close(found, powers / powers.sum(-1, keepdim=True))


def test_strict_alt_aligns_with_the_corpus_as_it_is_and_answers_by_equation_10(tiny_fields, features):
    torch.manual_seed(0)
    config = AltConfig(**tiny_fields, merge_r=1, **AltConfig.strict_settings)
    model = AltModel(config).eval()
    corpus = 3 * torch.randn(6, 32)
    model.set_corpus([f"entity {number}" for number in range(6)], corpus)
    _, text = features
    assert torch.equal(model.corpus, corpus)
    assert model.region_projection is None
    pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = model(pixels, text_features=text)
        expected = output.video_embeds @ normalize(text.embeds[0], dim=-1).T
    torch.testing.assert_close(output.logits, expected)
    names = [name for name, _ in model.decoder.named_parameters()]
    default = [name for name, _ in AltModel(AltConfig(**tiny_fields, merge_r=1)).decoder.named_parameters()]
    assert len(names) < len(default)  # without the MLPs behind self-attention and convolution


def test_strict_dstpr_is_equations_6_and_7_of_unit_features(tiny_fields, features):
    frames, text = features
    model = DstprModel(DstprConfig(**tiny_fields, **DstprConfig.strict_settings)).eval()
    with torch.no_grad():
        output = model(frame_features=frames, text_features=text)
    unit, words = normalize(frames.embeds, dim=-1), normalize(text.words, dim=-1)
    video = torch.einsum("bkt,btd->bkd", _saliency(unit, words, text.word_mask), unit)
    cosines = torch.einsum("bkd,kd->bk", normalize(video, dim=-1), normalize(text.embeds[0], dim=-1))
    torch.testing.assert_close(output.votes["video"], cosines)
    torch.testing.assert_close(output.logits, cosines / 0.01)


def test_strict_sllm_is_equations_6_and_7(tiny_fields):
    torch.manual_seed(0)
    settings = {**SllmConfig.strict_settings, "restorer_layers": 1, "rate": 4}
    model = SllmModel.from_recognizer(BikeModel(BikeConfig(**tiny_fields)), **settings).eval()
    assert not list(model.restorer.parameters())
    pixels = torch.randn(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        frames = model.encode_frames(pixels).embeds[0]
    left, right = frames[0], frames[4]

    def h(first: Tensor, second: Tensor) -> Tensor:
        g = torch.stack([first, second])
        return ((g @ g.T / math.sqrt(32)).softmax(-1) @ g)[0]

    for m in (1, 2, 3):
        share = m / 4
        torch.testing.assert_close(frames[m], (1 - share) * h(left, right) + share * h(right, left))


def test_the_attributes_branch_can_be_trained_beside_the_video_and_with_its_tower(tiny_fields):
    fields = {**tiny_fields, "attributes": "own", "train_branch": "both", "freeze_attribute_text": False}
    model = BikeModel(BikeConfig(**fields))
    frozen = model.freeze()
    assert {name.partition(".")[0] for name in frozen} == {"text_model", "text_projection"}
    kept = BikeModel(BikeConfig(**{**fields, "freeze_attribute_text": True})).freeze()
    assert set(kept) - set(frozen) == {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("attributes.text_model.", "attributes.text_pro"))
    }
