"""Second names in any language: read by the recognizer's own text tower, or by that of another CLIP."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn.functional import normalize
from transformers import AutoProcessor, CLIPConfig, CLIPModel, CLIPTextModelWithProjection

import kinoclip
from kinoclip import BikeConfig, BikeModel, BikeProcessor, Classifier, DstprConfig, DstprModel
from kinoclip.modeling.layers import text_branches

LABELS = ["surfing", "diving water"]
GERMAN = {
    "version": 1,
    "language": "German",
    "names": {"surfing": ["Wellenreiten", "Surfen"], "diving water": "Springen"},
}
EXACT = {"atol": 1e-6, "rtol": 1e-5}


@pytest.fixture
def pixels():
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def processor(tiny_bike, tokenizer) -> BikeProcessor:
    return BikeProcessor.for_config(tiny_bike.config, tokenizer)


@pytest.fixture
def shared(tiny_fields) -> BikeModel:
    torch.manual_seed(0)
    return BikeModel(BikeConfig(**tiny_fields, chinese_branch=True, second_tower="shared")).eval()


@torch.no_grad()
def encode_by_hand(model, tokenizer, text):
    """The embedding of a text by CLIP as Transformers has it."""
    output = model.text_model(**tokenizer([text], return_tensors="pt"))
    return model.text_projection(output.pooler_output)[0]


def test_the_own_tower_reads_a_second_name_as_it_reads_a_label(shared, processor, tokenizer, pixels):
    processor.set_chinese(None, GERMAN, tower="shared", templates=["ein Video über {}"])
    with torch.no_grad():
        output = shared(pixels, **processor(text=LABELS))
    expected = encode_by_hand(shared, tokenizer, "ein Video über Wellenreiten")
    torch.testing.assert_close(output.text.branches["chinese"][0, 0], expected, **EXACT)
    assert output.votes.keys() == {"video", "chinese"}
    assert not [name for name in shared.state_dict() if name.startswith("chinese")]


def test_a_model_with_a_shared_tower_is_saved_without_further_weights_or_tokenizer(
    shared, processor, pixels, tmp_path
):
    processor.set_chinese(None, GERMAN, tower="shared", all_variants=True)
    for part in (shared, processor):
        part.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "chinese_tokenizer").exists()
    loaded, reader = (
        BikeModel.from_pretrained(tmp_path / "model").eval(),
        AutoProcessor.from_pretrained(tmp_path / "model"),
    )
    assert (loaded.config.second_tower, reader.second_language) == ("shared", "German")
    with torch.no_grad():
        first, second = (m(pixels, **p(text=LABELS)).logits for m, p in ((shared, processor), (loaded, reader)))
    torch.testing.assert_close(first, second, atol=0, rtol=0)


@pytest.mark.parametrize("layout", ["whole CLIP", "text tower"])
def test_any_recognizer_takes_the_text_tower_of_another_clip(
    tiny_bike, tiny_fields, processor, tokenizer, pixels, layout, tmp_path
):
    folder, towers = tmp_path / "tower", ("text_config", "vision_config", "projection_dim")
    torch.manual_seed(3)
    trained = CLIPModel(CLIPConfig(**{name: tiny_fields[name] for name in towers})).eval()
    if layout == "text tower":
        alone = CLIPTextModelWithProjection(trained.config.text_config).eval()
        alone.text_model.load_state_dict(trained.text_model.state_dict())
        trained = alone
    trained.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = BikeModel(tiny_bike.config).eval().load_second_text("clip", folder)
    processor.set_chinese(folder, GERMAN, tower="clip")
    with torch.no_grad():
        output = model(pixels, **processor(text=LABELS))
    expected = encode_by_hand(trained, tokenizer, "Springen")
    torch.testing.assert_close(output.text.branches["chinese"][0, 1], expected, **EXACT)
    assert all(name in model.freeze() for name, _ in model.named_parameters() if name.startswith("chinese."))
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    classifier = Classifier.load(tmp_path / "model")
    with torch.no_grad():
        again = classifier.model(pixels, **classifier.processor(text=LABELS)).logits
    torch.testing.assert_close(again, output.logits, atol=0, rtol=0)


def test_a_label_without_a_second_name_is_scored_by_its_english_name(shared, processor, pixels):
    processor.set_chinese(None, GERMAN, tower="shared")
    with (
        pytest.warns(UserWarning, match="1 of 3 labels have no German name .* 'archery'. Pass names"),
        torch.no_grad(),
    ):
        votes = shared(pixels, **processor(text=[*LABELS, "archery"])).votes
    level = (votes["chinese"] - votes["video"])[:, :2].mean(1)
    torch.testing.assert_close(votes["chinese"][:, 2], votes["video"][:, 2] + level, **EXACT)


def test_all_names_of_a_label_are_averaged(shared, processor, tokenizer, pixels):
    processor.set_chinese(None, GERMAN, tower="shared", all_variants=True)
    with torch.no_grad():
        output = shared(pixels, **processor(text=["surfing"]))
    names = torch.stack([encode_by_hand(shared, tokenizer, name) for name in ("Wellenreiten", "Surfen")])
    mean = normalize(normalize(names, dim=-1).mean(0), dim=-1)
    video = normalize(output.video_embeds[:, 0], dim=-1)
    torch.testing.assert_close(
        normalize(output.text.branches["chinese"], dim=-1).mean(0)[0], normalize(names, dim=-1).mean(0)
    )
    assert output.votes["chinese"].shape == (2, 1)
    assert torch.equal(output.votes["chinese"].sign()[:, 0], (video @ mean).sign())


def test_names_that_are_given_to_a_classifier_keep_the_language_of_the_model(shared, processor, video_path):
    processor.set_chinese(None, GERMAN, tower="shared")
    classifier = Classifier(shared, processor)
    names = {"surfing": "Surfen", "diving water": "Tauchen"}
    answer = kinoclip.classify(str(video_path), LABELS, model=classifier, chinese=names, explain=True)
    assert processor.chinese["labels"] == {"surfing": ["Surfen"], "diving water": ["Tauchen"]}
    assert processor.second_language == "German"
    assert answer.languages.keys() == {"english", "chinese"}


def test_second_words_can_weigh_the_frames(tiny_fields, processor, pixels):
    processor.set_chinese(None, GERMAN, tower="shared")
    torch.manual_seed(0)
    model = DstprModel(
        DstprConfig(**tiny_fields, chinese_branch=True, second_tower="shared", chinese_word_weights=True)
    )
    with torch.no_grad():
        text = model.eval()(pixels, **processor(text=LABELS)).text
    lengths = [len(processor.tokenizer(name)["input_ids"]) for name in ("Wellenreiten", "Springen")]
    assert text.branches["chinese_word_mask"].sum((0, 2)).tolist() == lengths


def test_a_tower_that_is_not_in_the_table_is_refused(tiny_fields):
    with pytest.raises(
        StrictDataclassError, match="second_tower must be one of chinese_clip, shared, clip, got 'bert'"
    ):
        BikeConfig(**tiny_fields, second_tower="bert")


def test_what_has_no_such_tower_is_refused(tiny_bike, tmp_path):
    tiny_bike.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is not a CLIP checkpoint"):
        tiny_bike.load_second_text("clip", tmp_path)
    with pytest.raises(ValueError, match="has no weights of its own"):
        tiny_bike.load_second_text("shared", tmp_path)


def test_a_new_tower_is_a_class_and_a_row(tiny_fields, processor, pixels, monkeypatch):
    """The mean of all words of a name instead of its end, with the weights of the recognizer."""

    class MeanBranch(text_branches.SharedBranch):
        def read(self, tower, input_ids):
            _, states, present = super().read(tower, input_ids)
            mean = (states * present[..., None]).sum(1) / present.sum(1, keepdim=True).clamp_min(1)
            return mean, states, present

    monkeypatch.setitem(text_branches.SECOND_TOWERS, "mean", MeanBranch)
    model = BikeModel(BikeConfig(**tiny_fields, chinese_branch=True, second_tower="mean")).eval()
    processor.set_chinese(None, GERMAN, tower="mean")
    with torch.no_grad():
        assert model(pixels, **processor(text=LABELS)).votes["chinese"].isfinite().all()


def test_a_folder_without_the_newer_fields_is_written_as_before(tiny_fields):
    for config in (BikeConfig(**tiny_fields, chinese_branch=True), DstprConfig(**tiny_fields)):
        assert not {"second_tower", "second_text_config", "reparam_bottleneck"} & config.to_dict().keys()
    content = BikeConfig(**tiny_fields, chinese_branch=True, second_tower="clip").to_dict()
    assert (content["second_tower"], content["second_text_config"]["hidden_size"]) == ("clip", 64)


def test_an_unknown_tower_in_a_saved_processor_is_an_error(processor, tmp_path):
    with pytest.raises(ValueError, match="second_tower must be one of"):
        processor.set_chinese(None, GERMAN, tower="other")
    processor.set_chinese(None, GERMAN, tower="shared").save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    path.write_text(path.read_text().replace('"shared"', '"other"'))
    with pytest.raises(ValueError, match=r"second_tower must be one of .* got 'other'"):
        AutoProcessor.from_pretrained(tmp_path)
