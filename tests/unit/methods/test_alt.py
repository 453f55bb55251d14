"""What ALT does with regions, entities and frames."""

from dataclasses import replace

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn.functional import normalize

from kinoclip import AltModel, AltProcessor, Classifier, SllmConfig
from kinoclip.explain.evidence import read_evidence
from kinoclip.methods.alt.modeling_alt import assign_entities, count_patches
from kinoclip.modeling.losses import soft_cross_entropy
from kinoclip.modeling.outputs import FrameFeatures
from kinoclip.text.entities import CORPORA, Entity, entity_ids, load_corpus, save_corpus

EXACT = {"atol": 1e-6, "rtol": 1e-5}


ENTITIES = [
    Entity("circle", "a round thing", "object", "units"),
    Entity("moving", "going left or right", "motion", "units"),
    Entity("square", "a thing with four corners", "object", "units"),
]


@pytest.fixture
def processor(build_alt, tokenizer):
    return AltProcessor.for_config(build_alt().config, tokenizer)


def test_frames_know_their_regions_and_where_they_are(run_alt):
    frames = run_alt().frames
    assert frames.embeds.shape == (2, 4, 32)
    assert frames.tokens.shape == (2, 4, 17 - 2 * 2 - 1, 32)
    assert frames.regions.shape == (2, 4, 16)
    assert frames.regions.unique().tolist() == list(range(12))


def test_each_region_is_aligned_with_the_entity_nearest_to_it(build_alt, run_alt):
    model = build_alt()
    frames = run_alt(model).frames
    regions = frames.tokens[0, 1]
    model.set_corpus([f"region {i}" for i in range(12)], regions.flip(0))
    entities, scores = model.align(frames)
    assert entities.shape == scores.shape == (2, 4, 12)
    assert entities[0, 1].tolist() == list(range(11, -1, -1))
    torch.testing.assert_close(scores[0, 1], torch.ones(12), **EXACT)


def test_without_regions_the_frame_as_a_whole_is_aligned(build_alt, run_alt):
    model = build_alt(align_regions=False)
    frames = run_alt(model).frames
    assert frames.tokens is None
    model.set_corpus(list("abcd"), frames.embeds[1])
    entities, _ = model.align(frames)
    assert entities[1].tolist() == [[0], [1], [2], [3]]


def test_other_entities_work_without_building_the_model_anew(build_alt, run_alt):
    model = build_alt()
    before = run_alt(model).logits
    model.set_corpus(["one", "two"], torch.eye(2, 32))
    assert model.corpus.shape == (2, 32)
    assert model.config.corpus == ["one", "two"]
    assert not torch.allclose(run_alt(model).logits, before)


def test_without_a_corpus_the_model_says_how_to_set_one(build_alt, alt_pixels, text):
    with pytest.raises(ValueError, match=r"no corpus to align frames with.*model\.set_corpus"):
        build_alt(corpus=0)(alt_pixels, text_features=text)


def test_entities_are_encoded_with_their_descriptions(build_alt, processor):
    model = build_alt().set_corpus(ENTITIES, processor=processor)
    ids = processor.tokenizer("circle: a round thing", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model.encode_text(ids[None]).embeds[0]
    torch.testing.assert_close(model.corpus[:1], normalize(expected, dim=-1), **EXACT)
    assert model.config.corpus == ["circle", "moving", "square"]


def test_a_corpus_can_be_a_file(build_alt, processor, tmp_path):
    save_corpus(tmp_path / "corpus.jsonl", ENTITIES)
    model, expected = build_alt(), build_alt().set_corpus(ENTITIES, processor=processor)
    model.set_corpus(tmp_path / "corpus.jsonl", processor=processor)
    assert torch.equal(model.corpus, expected.corpus)


def test_long_descriptions_are_cut_at_the_end(processor):
    ids = processor.encode_entities([Entity("circle", "round " * 200, "object", "units")])["input_ids"]
    assert ids.shape == (1, 1, 77)
    assert ids[0, 0, -1] == processor.tokenizer.eos_token_id


@pytest.mark.parametrize("given", ["processor", "embeds"])
def test_corpus_categories_choose_a_part_of_the_corpus(build_alt, processor, given):
    model = build_alt(corpus_categories=["object"], corpus=0)
    sources = {"processor": processor} if given == "processor" else {"embeds": torch.eye(3, 32)}
    model.set_corpus(ENTITIES, **sources)
    assert model.config.corpus == ["circle", "square"]
    assert model.corpus.shape == (2, 32)


@pytest.mark.parametrize(
    ("fields", "arguments", "message"),
    [
        ({}, {"entities": ENTITIES}, "Pass the processor that encodes the entities"),
        ({}, {"entities": ENTITIES, "embeds": torch.ones(2, 32)}, r"must have shape \(3, 32\), got \(2, 32\)"),
        ({}, {"entities": [], "embeds": torch.ones(0, 32)}, "None of 0 entities"),
        ({"corpus_categories": ["body"]}, {"entities": ENTITIES}, r"None of 3 entities .* \['body'\]"),
        ({"query_source": "learned"}, {"entities": ENTITIES}, "learned queries and uses no corpus"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_refused(build_alt, fields, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_alt(corpus=0, **fields).set_corpus(**arguments)


def test_frame_features_without_regions_are_refused(build_alt, text):
    with pytest.raises(ValueError, match="lack the regions of the frames"):
        build_alt()(frame_features=FrameFeatures(embeds=torch.ones(1, 2, 32)), text_features=text)


def test_a_model_without_entities_aligns_nothing(build_alt, run_alt):
    model = build_alt(query_source="learned")
    with pytest.raises(ValueError, match="aligns nothing"):
        model.align(run_alt(model).frames)


def test_hard_assignment_is_one_hot_with_the_gradient_of_the_soft_one():
    scores = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    values = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    gradients = []
    for hard in (True, False):
        shares = assign_entities(scores, 0.5, hard=hard)
        gradients.append(torch.autograd.grad((shares * values).sum(), scores)[0])
        if hard:
            assert torch.equal(shares, torch.nn.functional.one_hot(scores.argmax(-1), 4).float())
        else:
            torch.testing.assert_close(shares, (scores / 0.5).softmax(-1))
    torch.testing.assert_close(*gradients)


def test_gumbel_noise_draws_each_entity_as_often_as_its_share():
    torch.manual_seed(0)
    shares = torch.tensor([0.6, 0.3, 0.1])
    drawn = assign_entities(shares.log().expand(20000, 3), 1.0, noise=True).mean(0)
    # three standard deviations of the largest: 3 * sqrt(0.6 * 0.4 / 20000) = 0.0104
    torch.testing.assert_close(drawn, shares, atol=0.0104, rtol=0)


def test_cosines_as_the_paper_prints_them_drown_in_the_noise():
    torch.manual_seed(0)
    scores = torch.full((2000, 2000), 0.2)
    scores[:, 0] = 0.35  # the nearest entity
    found = [assign_entities(scores, 1 / scale, noise=True)[:, 0].mean().item() for scale in (1.0, 100.0)]
    assert found[0] < 0.005
    assert found[1] > 0.99  # e^15 : 2000


def test_the_loss_reaches_the_regions_through_the_assignment(build_alt, alt_pixels, text):
    model = build_alt().train()
    model(alt_pixels, text_features=text, labels=torch.tensor([0, 2])).loss.backward()
    assert model.region_projection.projection.weight.grad.any()


def test_regions_start_in_the_space_of_the_text(clip_folder, run_alt, alt_pixels):
    own, shared = (
        AltModel.from_clip(clip_folder, merge_r=2, region_projection=kind).eval() for kind in ("separate", "shared")
    )
    size = own.config.vision_config.image_size
    frames = torch.randn(1, 2, 3, size, size)
    with torch.no_grad():
        assert torch.equal(own.encode_frames(frames).tokens, shared.encode_frames(frames).tokens)
    assert own.region_projection.projection.weight is not own.visual_projection.weight


def test_at_the_start_neighbors_weigh_as_much_as_the_frame_itself(build_alt):
    convs = [layer.conv for layer in build_alt().decoder.layers]
    frames = torch.randn(1, 32, 1000, generator=torch.Generator().manual_seed(4))

    assert all(0.7 < (conv(frames) - conv.bias[:, None]).std().item() < 1.4 for conv in convs)


def test_regions_count_their_patches_and_the_class_token_counts_once(run_alt):
    frames = run_alt().frames
    tokens = torch.cat([frames.embeds[:, :, None], frames.tokens], 2)
    counts = count_patches(tokens, frames.regions)
    assert counts.shape == (2, 4, 13)
    assert (counts.sum(2) == 17).all()
    assert (counts[..., 0] == 1).all()
    assert (counts >= 1).all()


def test_saliency_is_where_the_queries_look(build_alt, run_alt, text):
    model = build_alt(decoder_conv=False)
    frames = run_alt(model).frames
    same = FrameFeatures(**{name: t[:, :1].expand_as(t) for name, t in frames.items()})
    torch.testing.assert_close(model.saliency(same, text), torch.full((2, 3, 4), 0.25), **EXACT)
    different = model.saliency(frames, text)
    assert not torch.allclose(different, torch.full((2, 3, 4), 0.25), atol=1e-6)
    assert torch.equal(different[:, 0], different[:, 2])


def test_mixed_labels_are_targets_of_the_cross_entropy(build_alt, alt_pixels, text):
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.2, 0.8]])
    output = build_alt(label_smoothing=0.3)(alt_pixels, text_features=text, labels=mixed)
    torch.testing.assert_close(output.loss, soft_cross_entropy(output.logits, mixed))


def test_labels_are_smoothed_in_training_only(build_alt, alt_pixels, text):
    model = build_alt(label_smoothing=0.3, alignment_noise=False).train()
    output = model(alt_pixels, text_features=text, labels=torch.tensor([0, 2]))
    smoothed = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])  # 1 - 0.3 + 0.3 / 3
    torch.testing.assert_close(output.loss, soft_cross_entropy(output.logits, smoothed))
    output = model.eval()(alt_pixels, text_features=text, labels=torch.tensor([0, 2]))
    torch.testing.assert_close(output.loss, soft_cross_entropy(output.logits, torch.eye(3)[[0, 2]]))


def test_a_linear_probe_names_its_own_labels_from_a_folder(build_alt, processor, video_path, tmp_path):
    names = ["red circle", "blue square"]
    build_alt(linear_probe=True, id2label=dict(enumerate(names))).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    answer = Classifier.load(tmp_path).classify(str(video_path))
    assert {label for label, _ in answer} == set(names)


def test_a_linear_probe_refuses_other_candidates(build_alt, alt_pixels, text):
    with pytest.raises(ValueError, match="candidates of a classifier are its own labels"):
        build_alt(linear_probe=True)(alt_pixels, text_features=text)


def test_another_r_is_refused_where_the_reduction_has_a_weight_for_each_token(build_alt, tmp_path):
    build_alt().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"leaves 15 tokens of a frame, but .* weights for 13"):
        AltModel.from_pretrained(tmp_path, merge_r=1)


def test_another_r_works_where_tokens_are_averaged(build_alt, run_alt, tmp_path):
    build_alt(token_reduction="mean").save_pretrained(tmp_path)
    model = AltModel.from_pretrained(tmp_path, merge_r=1).eval()
    assert run_alt(model).frames.tokens.shape[2] == 14


def test_sllm_refuses_regions_and_takes_frames(build_alt):
    with pytest.raises(StrictDataclassError, match=r"ALT aligns the regions .* Set align_regions=False"):
        SllmConfig(recognizer_config=build_alt().config)
    assert SllmConfig(recognizer_config=build_alt(align_regions=False).config).rate == 2


def test_an_explanation_names_the_entity_of_each_region_as_align_does(build_alt, run_alt):
    model = build_alt()
    output = run_alt(model)
    explanation = model.explain(output.frames, output.text)
    entities, scores = model.align(output.frames)
    assert torch.equal(explanation.entities, entities)
    assert torch.equal(explanation.entity_scores, scores)
    assert torch.equal(explanation.regions.flatten(2), output.frames.regions)
    assert explanation.entity_names == [f"entity {i}" for i in range(6)]


def test_entities_that_share_a_unit_are_told_apart(build_alt, run_alt):
    senses = [Entity("bow", text, "object", "units") for text in ("it shoots arrows", "a knot of ribbon")]
    model = build_alt(corpus=0).set_corpus([*senses, ENTITIES[0]], torch.eye(3, 32))
    assert model.config.corpus == ["bow: it shoots arrows", "bow: a knot of ribbon", "circle"]
    output = run_alt(model)
    evidence = read_evidence(model.explain(output.frames, output.text), ["a", "b", "c"], [0])
    # every region shows one of three entities, and the map numbers them as they are listed
    assert evidence["entity_map"].max() < len(evidence["entities"])
    assert set(evidence["entities"]) <= set(model.config.corpus)


def test_the_same_entity_twice_is_refused(build_alt):
    with pytest.raises(ValueError, match="'one' is given twice"):
        build_alt().set_corpus(["one", "one"], torch.eye(2, 32))


@pytest.mark.parametrize("corpus", CORPORA)
def test_packaged_corpora_have_a_name_for_each_entity(corpus):
    entities = load_corpus(corpus)
    assert len(set(entity_ids(entities))) == len(entities)


def test_a_checkpoint_keeps_what_its_entities_are(build_alt, tmp_path):
    build_alt(corpus=0).set_corpus(ENTITIES, torch.eye(3, 32)).save_pretrained(tmp_path)
    assert AltModel.from_pretrained(tmp_path).entities == [replace(entity, labels=()) for entity in ENTITIES]


def test_a_checkpoint_of_an_earlier_version_tells_entities_of_one_name_apart(build_alt, run_alt, tmp_path):
    model = build_alt(corpus=3)
    model.config.corpus = ["bow", "hand", "bow"]
    model.save_pretrained(tmp_path)
    loaded = AltModel.from_pretrained(tmp_path).eval()
    output = run_alt(loaded)
    assert loaded.explain(output.frames, output.text).entity_names == ["bow", "hand", "bow (2)"]
    assert loaded.entities == ["bow", "hand", "bow"]
