import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from kinoclip.methods.auto import mini_clip_path
from kinoclip.training import build_model as building
from kinoclip.training import chinese_clip as chinese
from kinoclip.training.build_model import build_model, freeze_parameters, label_texts
from kinoclip.training.optimization import parameter_groups
from kinoclip.training.recipe import Recipe, load_recipe

TAM = {"method": "tam", "model": {"depth": 18, "stage_widths": [8] * 4, "stem_width": 8, "image_size": 32}}


def _save(tmp_path, recipe, labels=("a", "b")):
    model, processor = build_model(recipe, labels)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


@pytest.mark.parametrize("name", ["kinoshapes/bike", "kinoshapes/text4vis", "kinoshapes/sllm"])
def test_a_recognizer_is_trained_further_from_its_weights_with_the_recipes_settings(name, tmp_path):
    recipe = load_recipe(name)
    before, folder = _save(tmp_path, recipe)
    model, processor = build_model(recipe.with_settings({"model.num_frames": 6}), ["c"], folder)
    assert (model.config.num_frames, processor.video_processor.num_frames) == (6, 6)
    torch.testing.assert_close(model.state_dict(), before.state_dict(), atol=0, rtol=0)


def test_new_weights_depend_on_the_seed_alone(recipe):
    torch.manual_seed(1)
    first = build_model(recipe, ["a"])[0].state_dict()
    torch.manual_seed(2)
    second = build_model(recipe, ["a"])[0].state_dict()
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_a_wrapper_starts_from_what_it_wraps(tmp_path):
    before, folder = _save(tmp_path, load_recipe("kinoshapes/text4vis"))
    model, _ = build_model(load_recipe("kinoshapes/sllm"), ["a"], folder)
    assert torch.equal(model.recognizer.visual_projection.weight, before.visual_projection.weight)


def test_a_classifier_gets_a_row_for_each_label(tmp_path):
    recipe = Recipe.from_dict("tam", TAM)
    before, folder = _save(tmp_path, recipe, ["a", "b", "c"])
    assert before.config.id2label == {0: "a", 1: "b", 2: "c"}
    model, _ = build_model(recipe, ["x", "y"], folder)
    assert (model.fc.out_features, model.config.id2label) == (2, {0: "x", 1: "y"})
    assert torch.equal(model.conv1.weight, before.conv1.weight)


def test_a_model_of_another_method_is_refused(tmp_path):
    _, folder = _save(tmp_path, load_recipe("kinoshapes/text4vis"))
    with pytest.raises(ValueError, match="is a 'kinoclip_text4vis' model, and kinoshapes/bike trains 'kinoclip_bike'"):
        build_model(load_recipe("kinoshapes/bike"), ["a"], folder)


def test_weights_that_the_model_lacks_are_refused(tmp_path, recipe):
    _, folder = _save(tmp_path, recipe)
    with pytest.raises(ValueError, match=r"settings of kinoshapes/bike: .* unexpected, first temporal_head"):
        build_model(recipe.with_settings({"model.temporal_head": "none"}), ["a"], folder)


def test_a_recipe_that_continues_another_says_what_is_missing(recipe):
    with pytest.raises(ValueError, match=r"starts from the result of bike/t6a-vcs. Train it first"):
        build_model(recipe.with_settings({"start": "bike/t6a-vcs"}), ["a"])


def test_labels_are_spelled_out_or_described_as_the_recipe_has_it(recipe):
    assert label_texts(recipe, ["ApplyLipstick"]) == ["ApplyLipstick"]
    assert label_texts(recipe.with_settings({"data.label_style": "words"}), ["ApplyLipstick"]) == ["apply lipstick"]
    [text] = label_texts(recipe.with_settings({"data.descriptions": "ucf101"}), ["ApplyLipstick"])
    assert text.startswith("ApplyLipstick")
    assert len(text) > len("ApplyLipstick")


def test_the_processor_has_the_templates_sampling_normalization_and_attributes_of_the_recipe(recipe):
    settings = {"model.attributes": "shared", "data.attribute_template": "{}", "data.num_attributes": 3}
    settings |= {"data.normalization": "imagenet", "data.sampling": "segment_center", "data.templates": "text4vis"}
    _, processor = build_model(recipe.with_settings(settings), ["a"])
    assert (processor.attribute_template, processor.num_attributes) == ("{}", 3)
    assert processor.video_processor.image_mean == [0.485, 0.456, 0.406]
    assert processor.video_processor.sampling == "segment_center"
    assert processor.templates == ["a video of a person {}."]
    _, processor = build_model(recipe.with_settings({"data.templates": ["{}", "a {}"]}), ["a"])
    assert processor.templates == ["{}", "a {}"]


def test_the_attributes_branch_has_the_text_tower_of_the_clip_that_the_recipe_names(recipe, tmp_path):
    own = recipe.with_settings({"model.attributes": "own", "data.attribute_clip": "mini"})
    model, _ = build_model(own, ["a"])
    clip = CLIPModel.from_pretrained(mini_clip_path())
    tower = model.attributes.text_model.state_dict()
    assert all(torch.equal(tower[name], weight) for name, weight in clip.text_model.state_dict().items())
    # a branch that was trained is continued, not started again
    with torch.no_grad():
        model.attributes.query_fc[0].weight.fill_(0.5)
    model.save_pretrained(tmp_path)
    build_model(own, ["a"])[1].save_pretrained(tmp_path)
    assert build_model(own, ["a"], tmp_path)[0].attributes.query_fc[0].weight.eq(0.5).all()


def test_the_procedural_benchmark_has_entities_for_alt():
    model, _ = build_model(load_recipe("benchmark/alt-objects"), ["red circle"])
    # 6 colors and 6 shapes
    assert len(model.config.corpus) == 36
    assert "red circle" in model.config.corpus


@pytest.mark.parametrize(
    ("corpus", "size"),
    [
        ("kinoshapes/small", 22),  # 6 shapes, 10 motions and 6 backgrounds
        ("kinoshapes", 52),  # 36 objects
        ("kinoshapes/large", 412),  # and 36 objects x 10 motions
        (["kinoshapes/small", "kinoshapes"], 58),  # only shapes are added
    ],
)
def test_corpora_of_the_procedural_benchmark_have_sizes_and_several_become_one(corpus, size):
    recipe = load_recipe("benchmark/alt-r0").with_settings({"data.corpus": corpus})
    model, _ = build_model(recipe, ["red circle"])
    assert len(model.entities) == model.config.corpus_size == size


def test_the_chinese_clip_of_the_procedural_benchmark_is_trained_once(monkeypatch, tmp_path):
    trained = []
    monkeypatch.setattr(building, "HF_HOME", tmp_path)
    train_once = lambda folder: trained.append(chinese.train_chinese(folder, steps=1))  # noqa: E731
    monkeypatch.setattr(building, "train_chinese", train_once)
    for _ in range(2):
        _, processor = build_model(load_recipe("benchmark/dstpr"), ["red circle"])
    assert len(trained) == 1
    assert "chinese_input_ids" in processor.encode_labels(["red circle"])


def _cut(folder):
    place = folder / "model.safetensors"
    place.write_bytes(place.read_bytes()[:-100])


def _change_weights(change):
    def damage(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "The weights in .* could not be read"),
        (
            _change_weights(lambda weights: weights["logit_scale"].fill_(torch.nan)),
            "logit_scale has values that are NaN",
        ),
        (_change_weights(lambda weights: weights.pop("logit_scale")), "1 missing, first logit_scale"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "lacks its tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("[" * 9), "The tokenizer in .* could not be read"),
    ],
)
@pytest.mark.parametrize("kind", ["own", "plain CLIP"])
def test_a_start_that_is_damaged_is_named_in_a_line(kind, damage, message, recipe, tmp_path):
    if kind == "own":
        _, folder = _save(tmp_path, recipe)
    else:
        folder = shutil.copytree(mini_clip_path(), tmp_path / "clip")
    damage(folder)
    with pytest.raises(ValueError, match=message) as caught:
        build_model(recipe, ["a"], folder)
    assert "\n" not in str(caught.value)


def _trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.fixture
def model(recipe):
    return build_model(recipe, ["a"])[0]


def test_a_recipe_freezes_what_the_method_does_or_nothing_or_the_towers(model, recipe):
    freeze_parameters(model, recipe.training)
    assert "visual_projection.weight" in _trained(model)
    assert not any(name.startswith("text_model.") for name in _trained(model))
    freeze_parameters(model, recipe.with_settings({"training.freeze": "nothing"}).training)
    assert len(_trained(model)) == len(list(model.parameters()))
    freeze_parameters(model, recipe.with_settings({"training.freeze": "towers"}).training)
    assert {name.partition(".")[0] for name in _trained(model)} == {"temporal_head"}


def test_adapters_replace_the_trained_towers_at_the_rate_of_new_modules_and_can_be_merged(model, recipe):
    adapters = freeze_parameters(model, recipe.with_settings({"training.lora.rank": 2}).training)
    inside = {name for name in _trained(model) if not name.startswith("temporal_head.")}
    assert inside < _trained(model)
    assert all(".lora_" in name and name.startswith("vision_model.") for name in inside)
    assert [group["name"] for group in parameter_groups(model, 1e-3)] == ["head"]
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    pixels = torch.randn(1, 2, 3, 48, 48)
    before = model.eval().encode_frames(pixels).embeds
    adapters.merge_and_unload()
    torch.testing.assert_close(model.encode_frames(pixels).embeds, before, atol=1e-5, rtol=1e-4)
    assert model.state_dict().keys() == build_model(recipe, ["a"])[0].state_dict().keys()


def test_adapters_without_a_layer_are_refused(model, recipe):
    settings = recipe.with_settings({"training.lora.rank": 2, "training.lora.targets": ["query"]}).training
    with pytest.raises(ValueError, match=r"must match names of trained linear .* end in fc1, fc2, k_proj"):
        freeze_parameters(model, settings)


def test_second_names_of_kinoshapes_in_english_need_no_second_tower():
    settings = {"model.second_tower": "shared", "data.chinese_labels": "kinoshapes/english", "data.chinese_clip": None}
    recipe = load_recipe("benchmark/dstpr").with_settings({**settings, "data.second_templates": ["a video of {}"]})
    model, processor = build_model(recipe, ["red circle"])
    assert (processor.second_language, processor.chinese["tower"]) == ("English", "shared")
    assert processor.chinese["templates"] == ["a video of {}"]
    assert processor.chinese["labels"]["spinning"] == ["turning"]
    assert model.encode_text(**processor(text=["red circle"])).branches["chinese"].shape == (1, 1, 128)


def test_a_second_tower_that_is_a_clip_is_read_from_its_folder(clip_folder):
    settings = {"model.second_tower": "clip", "data.chinese_labels": "kinoshapes/english"}
    recipe = load_recipe("benchmark/dstpr").with_settings({**settings, "data.chinese_clip": str(clip_folder)})
    model, processor = build_model(recipe, ["red circle"])
    trained = model.text_projection.weight  # both are the embedded CLIP's
    torch.testing.assert_close(model.chinese.text_projection.weight, trained, atol=0, rtol=0)
    assert processor.chinese["tower"] == "clip"
