"""Chinese names of labels in the processor, and the tower of a trained Chinese-CLIP in any recognizer."""

import pytest
import torch
from transformers import AutoProcessor, BertTokenizer, ChineseCLIPConfig, ChineseCLIPModel

import kinoclip
from kinoclip import ActionClipConfig, ActionClipModel, BikeConfig, BikeModel, BikeProcessor, Classifier
from kinoclip.modeling.layers.text_branches import complete_votes

NAMES = {"surfing": ["冲浪", "玩冲浪板"], "diving water": "跳水"}
TEXT = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}


@pytest.fixture
def bert(tmp_path) -> BertTokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"冲浪跳水玩板人在"]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(words) + "\n", encoding="utf-8")
    return BertTokenizer(str(path))


@pytest.fixture
def processor(tiny_bike, tokenizer, bert) -> BikeProcessor:
    return BikeProcessor.for_config(tiny_bike.config, tokenizer).set_chinese(bert, NAMES)


@pytest.fixture
def chinese_clip(tmp_path, bert):
    """A folder of a Chinese-CLIP of random weights, and the function that makes it."""

    def write(width: int = 32) -> str:
        torch.manual_seed(1)
        vision = {**TEXT, "image_size": 32, "patch_size": 16}
        config = ChineseCLIPConfig(
            text_config={**TEXT, "vocab_size": len(bert)}, vision_config=vision, projection_dim=width
        )
        folder = tmp_path / f"chinese_clip_{width}"
        ChineseCLIPModel(config).save_pretrained(folder)
        bert.save_pretrained(folder)
        return str(folder)

    return write


def test_labels_are_encoded_by_their_first_chinese_name_whatever_their_spelling(processor, bert):
    ids = processor(text=["Diving_water", "surfing"])["chinese_input_ids"]
    assert ids.shape == (1, 2, 52)
    assert [bert.decode(row, skip_special_tokens=True) for row in ids[0]] == ["跳 水", "冲 浪"]


def test_all_variants_of_a_label_and_templates_become_rows(processor, bert):
    processor.set_chinese(bert, NAMES, templates=["{}", "人在{}"], all_variants=True, context_length=9)
    ids = processor(text=["surfing", "diving water"])["chinese_input_ids"]
    assert ids.shape == (4, 2, 9)
    assert [bert.decode(row, skip_special_tokens=True) for row in ids[:, 1]] == ["跳 水"] * 2 + ["人 在 跳 水"] * 2


def test_a_label_in_chinese_is_its_own_name(processor, bert):
    ids = processor(text=["跳水"])["chinese_input_ids"]
    assert bert.decode(ids[0, 0], skip_special_tokens=True) == "跳 水"


def test_a_label_without_a_chinese_name_becomes_padding_and_is_listed(processor):
    with pytest.warns(UserWarning, match="1 of 2 labels have no Chinese name .* 'archery'"):
        ids = processor(text=["surfing", "archery"])["chinese_input_ids"]
    assert torch.equal(ids[:, :1], processor(text=["surfing"])["chinese_input_ids"])
    assert not ids[:, 1].any()  # [PAD] is 0


def test_labels_that_all_lack_a_chinese_name_leave_the_branch_out(processor):
    with pytest.warns(UserWarning, match="2 of 2 labels"):
        assert "chinese_input_ids" not in processor(text=["running", "archery"])


def test_chinese_names_are_saved_with_the_processor(processor, tmp_path):
    processor.save_pretrained(tmp_path / "folder")
    loaded = AutoProcessor.from_pretrained(tmp_path / "folder")
    labels = ["surfing", "diving water"]
    expected = processor(text=labels)["chinese_input_ids"]
    torch.testing.assert_close(loaded(text=labels)["chinese_input_ids"], expected, atol=0, rtol=0)


def test_any_recognizer_takes_the_tower_of_a_trained_chinese_clip(tiny_fields, chinese_clip, processor, tmp_path):
    folder = chinese_clip()
    model = ActionClipModel(ActionClipConfig(**tiny_fields, temporal_head="mean")).eval().load_chinese(folder)
    inputs = processor(text=["surfing", "diving water"])
    with torch.no_grad():
        output = model(torch.randn(1, 4, 3, 32, 32), **inputs)
        ids = inputs["chinese_input_ids"][0]
        trained = ChineseCLIPModel.from_pretrained(folder).eval()
        expected = trained.get_text_features(ids, attention_mask=(ids != 0).long()).pooler_output
    torch.testing.assert_close(output.text.branches["chinese"][0], expected, atol=1e-6, rtol=1e-5)
    assert output.votes.keys() == {"video", "chinese"}
    assert model.config.fusion == {"video": 0.5, "chinese": 0.5}
    assert all(name in model.freeze() for name, _ in model.named_parameters() if name.startswith("chinese."))
    model.save_pretrained(tmp_path / "model")
    loaded = ActionClipModel.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        again = loaded.eval().encode_text(**inputs).branches["chinese"]
    torch.testing.assert_close(again, output.text.branches["chinese"], atol=0, rtol=0)


def test_a_chinese_clip_of_another_width_is_refused(tiny_bike, chinese_clip):
    with pytest.raises(ValueError, match="must have 32 dimensions as the recognizer's, got 48"):
        tiny_bike.load_chinese(chinese_clip(width=48))


def test_what_is_no_chinese_clip_is_refused(tiny_bike, clip_folder):
    with pytest.raises(ValueError, match="not a Chinese-CLIP checkpoint"):
        tiny_bike.load_chinese(clip_folder)


def test_chinese_names_need_a_branch_for_them(tiny_bike, processor):
    with pytest.raises(ValueError, match="no Chinese branch"):
        tiny_bike(torch.randn(1, 4, 3, 32, 32), **processor(text=["surfing", "diving water"]))


@pytest.fixture
def bilingual(tiny_fields, bert) -> BikeModel:
    torch.manual_seed(0)
    tower = {**TEXT, "vocab_size": len(bert), "pad_token_id": 0}
    return BikeModel(BikeConfig(**tiny_fields, chinese_branch=True, chinese_text_config=tower)).eval()


def test_classify_takes_chinese_names_which_then_vote(bilingual, processor, video_path):
    classifier, labels = Classifier(bilingual, processor), ["surfing", "diving water"]
    first = kinoclip.classify(str(video_path), labels, model=classifier, explain=True)
    names = {"surfing": "跳板", "diving water": "人"}
    answer = kinoclip.classify(str(video_path), labels, model=classifier, explain=True, chinese=names)
    assert answer.languages["english"] == pytest.approx(first.languages["english"], abs=1e-6)
    assert answer.languages["chinese"] != pytest.approx(first.languages["chinese"], abs=1e-6)
    assert answer.predictions != first.predictions


def test_chinese_names_keep_the_templates_of_the_processor(bilingual, processor, bert):
    processor.set_chinese(bert, NAMES, templates=["人在{}"], context_length=9)
    Classifier(bilingual, processor, chinese={"surfing": "玩"})
    assert processor.chinese == {"labels": {"surfing": ["玩"]}, "templates": ["人在{}"], "context_length": 9}


def test_chinese_names_do_not_go_with_descriptions(bilingual, processor):
    with pytest.raises(ValueError, match="cannot be used with Chinese names"):
        Classifier(bilingual, processor, descriptions={"surfing": "on a wave"}, chinese=NAMES)


def test_the_branch_of_a_wrapped_recognizer_takes_chinese_names(bilingual, processor):
    wrapped = kinoclip.SllmModel.from_recognizer(bilingual, num_frames=4)
    assert Classifier(wrapped, processor, chinese=NAMES).chinese["surfing"] == ["冲浪"]


@pytest.mark.filterwarnings("ignore:.*have no Chinese name")
@pytest.mark.parametrize("half", [False, True])
def test_a_label_without_a_chinese_name_is_scored_by_its_english_name_and_the_others_by_both(
    bilingual, processor, half
):
    model = bilingual.half() if half else bilingual
    pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(model.dtype)
    labels = ["surfing", "diving water", "archery"]
    with torch.no_grad():
        whole = model(pixels, **processor(text=labels[:2])).votes["chinese"]
        output = model(pixels, **processor(text=labels))
    english, chinese = output.votes["video"], output.votes["chinese"]
    tolerance = {"atol": 2e-3, "rtol": 0} if half else {"atol": 1e-6, "rtol": 1e-5}
    torch.testing.assert_close(chinese[:, :2], whole, **tolerance)
    level = (whole - english[:, :2]).mean(1)
    torch.testing.assert_close(chinese[:, 2], english[:, 2] + level, **tolerance)


@pytest.mark.filterwarnings("ignore:.*have no Chinese name")
def test_a_label_without_a_chinese_name_can_be_trained_with(bilingual, processor):
    inputs = processor(text=["surfing", "archery"])
    labels = torch.tensor([0, 1])
    bilingual.train()
    bilingual.freeze()
    pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    bilingual(pixels, **inputs, labels=labels, candidate_labels=labels).loss.backward()
    gradients = [p.grad for p in bilingual.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_missing_name_puts_no_candidate_ahead_or_behind():
    english = torch.tensor([[0.2, 0.3, 0.25]])
    chinese = torch.tensor([[0.5, 0.6, 0.0]])
    # Chinese scores are 0.3 higher, so the third is 0.25 + 0.3
    found = complete_votes(chinese, english, torch.tensor([False, False, True]))
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.6, 0.55]]))
