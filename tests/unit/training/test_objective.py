import json

import pytest
import torch

from kinoclip.modeling.losses import binary_cross_entropy
from kinoclip.training.build_model import build_model, freeze_parameters
from kinoclip.training.objective import Objective, TargetMixer
from kinoclip.training.recipe import Recipe, load_recipe
from kinoclip.training.settings import DataSettings

LABELS = ["red circle", "blue square", "green star"]


def _objective(recipe, settings=None):
    """Return the objective of a recipe or of a row of this package, with its model and its processor."""
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    recipe = recipe.with_settings(settings or {})
    model, processor = build_model(recipe, LABELS)
    freeze_parameters(model, recipe.training)
    return Objective(model, processor, recipe, LABELS), model, processor


def _batch(labels):
    return {
        "pixel_values_videos": torch.randn(2, 4, 3, 48, 48),
        "labels": torch.tensor(labels),
        "index": torch.tensor([0, 1]),
    }


def test_frozen_captions_are_rows_of_texts_that_are_encoded_once():
    objective, *_ = _objective("kinoshapes/bike")
    inputs = objective.inputs(_batch([2, 2]))
    assert inputs["candidate_labels"].tolist() == [2, 2]
    assert torch.equal(inputs["text_features"].embeds, objective.text.embeds[:, [2, 2]])
    assert torch.equal(inputs["text_features"].words, objective.text.words[[2, 2]])
    assert "input_ids" not in inputs


def test_trained_captions_are_encoded_in_each_step():
    objective, *_ = _objective("kinoshapes/bike", {"model.freeze_text": False})
    inputs = objective.inputs(_batch([2, 0]))
    assert objective.text is None
    assert torch.equal(inputs["input_ids"], objective.encoded["input_ids"][:, [2, 0]])


ACTIONCLIP = Recipe.from_dict(
    "actionclip",
    {"method": "actionclip", "start": "mini", "model": {"num_frames": 4}, "training": {"objective": "captions"}},
)


@pytest.mark.parametrize("freeze_text", [True, False])
def test_a_caption_is_the_label_in_one_template_drawn_for_each_video(freeze_text):
    objective, _, processor = _objective(ACTIONCLIP, {"model.freeze_text": freeze_text})
    # of 16 templates, 19 % 16 = 3 and 16 % 16 = 0
    inputs = objective.inputs({**_batch([2, 2]), "draw": torch.tensor([19, 16])})
    if freeze_text:
        assert torch.equal(inputs["text_features"].embeds, objective.text.embeds[[3, 0], [2, 2]][None])
    else:
        assert torch.equal(inputs["input_ids"], processor.encode_labels(LABELS)["input_ids"][[3, 0], [2, 2]][None])


def test_the_loss_of_the_frozen_video_branch_is_left_out_where_attributes_are_trained():
    settings = {"model.attributes": "shared", "model.train_branch": "attributes"}
    objective, model, _ = _objective("kinoshapes/bike", settings)
    objective.attributes = torch.ones(2, 77, dtype=torch.long)
    inputs = objective.inputs(_batch([2, 0]))
    assert objective.losses(model(**inputs), inputs["labels"]).keys() == {"attributes"}


def test_all_classes_have_no_candidate_labels_so_that_processes_do_not_gather_them():
    objective, *_ = _objective("kinoshapes/text4vis")
    assert "candidate_labels" not in objective.inputs(_batch([2, 0]))


def test_several_labels_can_be_binary_questions():
    objective, model, _ = _objective("kinoshapes/text4vis", {"training.multi_label": "yes_no"})
    inputs = objective.inputs(_batch([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    output = model(**inputs)
    losses = objective.losses(output, inputs["labels"])
    assert losses.keys() == {"yes_no"}
    torch.testing.assert_close(losses["yes_no"], binary_cross_entropy(output.logits, inputs["labels"]))


def test_captions_need_videos_with_one_label():
    objective, *_ = _objective("kinoshapes/bike")
    with pytest.raises(ValueError, match=r'Set training.objective = "candidates"'):
        objective.inputs(_batch([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))


def _pixels():
    pixels = torch.arange(4.0).reshape(4, 1, 1, 1, 1).expand(4, 2, 3, 8, 8).clone()
    return {"pixel_values_videos": pixels, "labels": torch.tensor([0, 1, 2, 0])}


def test_a_batch_is_not_changed_by_default():
    batch = _pixels()
    assert TargetMixer(DataSettings(), 3)(batch) is batch


def test_smoothing_adds_a_share_of_every_class():
    labels = TargetMixer(DataSettings(label_smoothing=0.3), 3)(_pixels())["labels"]
    # 0.7 + 0.3 / 3 for the right class, 0.3 / 3 for the others
    torch.testing.assert_close(labels[0], torch.tensor([0.8, 0.1, 0.1]))


def test_mixup_mixes_pixels_and_labels_in_the_same_share():
    torch.manual_seed(0)
    mixed = TargetMixer(DataSettings(mixup=0.8), 3)(_pixels())
    # video 1 is all ones and the one before it all zeros, so a pixel is the share of video 1
    share = mixed["pixel_values_videos"][1, 0, 0, 0, 0]
    assert 0 < share < 1
    torch.testing.assert_close(mixed["labels"][1], torch.tensor([1 - share, share, 0.0]))


def test_cutmix_pastes_the_same_rectangle_into_every_frame_and_counts_its_area():
    torch.manual_seed(1)
    mixed = TargetMixer(DataSettings(cutmix=1.0), 3)(_pixels())
    video = mixed["pixel_values_videos"][1]
    assert torch.equal(video[0], video[1])
    assert set(video.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(mixed["labels"][1, 1], video.mean())


def test_kept_and_discarded_frames_are_mixed_alike():
    torch.manual_seed(0)
    batch = _pixels()
    batch["discarded_pixel_values"] = batch["pixel_values_videos"][:, :1].clone()
    mixed = TargetMixer(DataSettings(mixup=0.8, cutmix=1.0), 3)(batch)
    assert torch.equal(mixed["pixel_values_videos"][:, :1], mixed["discarded_pixel_values"])
    assert type(mixed["pixel_values_videos"]) is torch.Tensor


def test_several_labels_share_the_target_before_it_is_smoothed():
    batch = {"pixel_values_videos": torch.zeros(2, 1, 3, 4, 4), "labels": torch.tensor([[1, 1, 0], [0, 0, 0]])}
    shares = TargetMixer(DataSettings(label_smoothing=0.3), 3)(batch)["labels"]
    torch.testing.assert_close(shares[0], torch.tensor([0.45, 0.45, 0.1]))


@pytest.fixture
def bilingual(tmp_path) -> Recipe:
    """A recipe with second names in English."""
    names = {"red circle": ["circle", "a circle in red"], "blue square": "square", "green star": ["star", "the star"]}
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"version": 1, "language": "English", "names": names}))
    content = {
        "method": "dstpr",
        "start": "mini",
        "model": {"chinese_branch": True, "second_tower": "shared", "loss": "cross_entropy", "num_frames": 4},
        "data": {"chinese_labels": str(path), "all_names": True},
        "training": {"objective": "captions"},
    }
    return Recipe.from_dict("dstpr", content)


def test_a_caption_draws_one_of_the_second_names_of_its_label(bilingual):
    objective, *_ = _objective(bilingual)
    names = objective.text.branches["chinese"]
    assert names.shape[:2] == (2, 3)
    assert torch.equal(names[0, 1], names[1, 1])  # a single name is repeated
    inputs = objective.inputs({**_batch([2, 0]), "draw": torch.tensor([4, 7])})  # 4 % 2 = 0, 7 % 2 = 1
    assert torch.equal(inputs["text_features"].branches["chinese"], names[[0, 1], [2, 0]][None])


def test_by_default_the_first_second_name_is_trained_with(bilingual):
    objective, _, processor = _objective(bilingual, {"data.all_names": False})
    assert processor.chinese["labels"]["red circle"] == ["circle"]
    assert objective.text.branches["chinese"].shape[:2] == (1, 3)


def test_a_caption_keeps_all_words_of_its_second_name(bilingual):
    objective, *_ = _objective(bilingual, {"model.chinese_word_weights": True})
    words = objective.text.branches["chinese_words"]
    inputs = objective.inputs({**_batch([2, 0]), "draw": torch.tensor([1, 1])})
    assert torch.equal(inputs["text_features"].branches["chinese_words"], words[:, [2, 0]])
