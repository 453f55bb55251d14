import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from kinoclip.embedded import mini_clip_path
from kinoclip.training import starting
from kinoclip.training.mini_clip import chinese
from kinoclip.training.recipe import Recipe, load_recipe
from kinoclip.training.starting import label_texts, start_model

TAM = {"method": "tam", "model": {"depth": 18, "stage_widths": [8] * 4, "stem_width": 8, "image_size": 32}}


def _save(tmp_path, recipe, labels=("a", "b")):
    model, processor = start_model(recipe, labels)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


@pytest.mark.parametrize("name", ["kinoshapes/bike", "kinoshapes/text4vis", "kinoshapes/sllm"])
def test_a_recognizer_is_trained_further_from_its_weights_with_the_recipes_settings(name, tmp_path):
    recipe = load_recipe(name)
    before, folder = _save(tmp_path, recipe)
    model, processor = start_model(recipe.with_settings({"model.num_frames": 6}), ["c"], folder)
    assert (model.config.num_frames, processor.video_processor.num_frames) == (6, 6)
    assert all(
        torch.equal(a, b) for a, b in zip(before.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_new_weights_depend_on_the_seed_alone(recipe):
    torch.manual_seed(1)
    first = start_model(recipe, ["a"])[0].state_dict()
    torch.manual_seed(2)
    second = start_model(recipe, ["a"])[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_wrapper_starts_from_what_it_wraps(tmp_path):
    before, folder = _save(tmp_path, load_recipe("kinoshapes/text4vis"))
    model, _ = start_model(load_recipe("kinoshapes/sllm"), ["a"], folder)
    assert torch.equal(model.recognizer.visual_projection.weight, before.visual_projection.weight)


def test_a_classifier_gets_a_row_for_each_label(tmp_path):
    recipe = Recipe.from_dict("tam", TAM)
    before, folder = _save(tmp_path, recipe, ["a", "b", "c"])
    assert before.config.id2label == {0: "a", 1: "b", 2: "c"}
    model, _ = start_model(recipe, ["x", "y"], folder)
    assert (model.fc.out_features, model.config.id2label) == (2, {0: "x", 1: "y"})
    assert torch.equal(model.conv1.weight, before.conv1.weight)


def test_a_model_of_another_method_is_refused(tmp_path):
    _, folder = _save(tmp_path, load_recipe("kinoshapes/text4vis"))
    with pytest.raises(ValueError, match="is a 'kinoclip_text4vis' model, and kinoshapes/bike trains 'kinoclip_bike'"):
        start_model(load_recipe("kinoshapes/bike"), ["a"], folder)


def test_weights_without_a_place_are_refused(tmp_path, recipe):
    _, folder = _save(tmp_path, recipe)
    with pytest.raises(ValueError, match=r"weights that kinoshapes/bike has no place for, first temporal_head"):
        start_model(recipe.with_settings({"model.temporal_head": "none"}), ["a"], folder)


def test_a_recipe_that_continues_another_says_what_is_missing(recipe):
    with pytest.raises(ValueError, match=r"trains the result of bike/t6a-vcs further. Train that one"):
        start_model(recipe.with_settings({"start": "bike/t6a-vcs"}), ["a"])


def test_labels_are_spelled_out_or_described_as_the_recipe_has_it(recipe):
    assert label_texts(recipe, ["ApplyLipstick"]) == ["ApplyLipstick"]
    assert label_texts(recipe.with_settings({"data.label_style": "words"}), ["ApplyLipstick"]) == ["apply lipstick"]
    [text] = label_texts(recipe.with_settings({"data.descriptions": "ucf101"}), ["ApplyLipstick"])
    assert text.startswith("ApplyLipstick")
    assert len(text) > len("ApplyLipstick")


def test_a_template_is_given_by_name_or_in_full(recipe):
    _, named = start_model(recipe.with_settings({"data.templates": "text4vis"}), ["a"])
    _, written = start_model(recipe.with_settings({"data.templates": ["{}", "a {}"]}), ["a"])
    assert (named.templates, written.templates) == (["a video of a person {}."], ["{}", "a {}"])


def test_the_processor_keeps_the_sampling_of_the_recipe(recipe):
    _, processor = start_model(recipe.with_settings({"data.sampling": "segment_center"}), ["a"])
    assert processor.video_processor.sampling == "segment_center"


def test_the_processor_keeps_pixel_normalization_and_attributes_of_the_recipe(recipe):
    settings = {"model.attributes": "shared", "data.attribute_template": "{}", "data.num_attributes": 3}
    _, processor = start_model(recipe.with_settings({**settings, "data.normalization": "imagenet"}), ["a"])
    assert (processor.attribute_template, processor.num_attributes) == ("{}", 3)
    assert processor.video_processor.image_mean == [0.485, 0.456, 0.406]


def test_the_attributes_branch_has_the_text_tower_of_the_clip_that_the_recipe_names(recipe, tmp_path):
    own = recipe.with_settings({"model.attributes": "own", "data.attribute_clip": "mini"})
    model, _ = start_model(own, ["a"])
    clip = CLIPModel.from_pretrained(mini_clip_path())
    tower = model.attributes.text_model.state_dict()
    assert all(torch.equal(tower[name], weight) for name, weight in clip.text_model.state_dict().items())
    # a branch that was trained is continued, not started again
    with torch.no_grad():
        model.attributes.query_fc[0].weight.fill_(0.5)
    model.save_pretrained(tmp_path)
    start_model(own, ["a"])[1].save_pretrained(tmp_path)
    assert start_model(own, ["a"], tmp_path)[0].attributes.query_fc[0].weight.eq(0.5).all()


def test_the_procedural_benchmark_has_entities_for_alt():
    model, _ = start_model(load_recipe("benchmark/alt-objects"), ["red circle"])
    # 6 colors and 6 shapes
    assert len(model.config.corpus) == 36
    assert "red circle" in model.config.corpus


def test_the_chinese_clip_of_the_procedural_benchmark_is_trained_once(monkeypatch, tmp_path):
    trained = []
    monkeypatch.setattr(starting, "HF_HOME", tmp_path)
    monkeypatch.setattr(
        starting, "train_chinese", lambda folder: trained.append(chinese.train_chinese(folder, steps=1))
    )
    for _ in range(2):
        _, processor = start_model(load_recipe("benchmark/dstpr"), ["red circle"])
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
    ("damage", "said"),
    [
        (_cut, "The weights in .* could not be read"),
        (
            _change_weights(lambda weights: weights["logit_scale"].fill_(torch.nan)),
            "logit_scale holds values that are no",
        ),
        (_change_weights(lambda weights: weights.pop("logit_scale")), r"lacks 1 weights .*, first logit_scale"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "lacks its tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("[" * 9), "The tokenizer in .* could not be read"),
    ],
)
@pytest.mark.parametrize("kind", ["own", "plain CLIP"])
def test_a_start_that_is_damaged_is_named_in_a_line(kind, damage, said, recipe, tmp_path):
    if kind == "own":
        _, folder = _save(tmp_path, recipe)
    else:
        folder = shutil.copytree(mini_clip_path(), tmp_path / "clip")
    damage(folder)
    with pytest.raises(ValueError, match=said) as caught:
        start_model(recipe, ["a"], folder)
    assert "\n" not in str(caught.value)
