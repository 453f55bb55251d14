import pytest
import torch

from kinoclip.losses import binary_cross_entropy
from kinoclip.training.freezing import choose_trained
from kinoclip.training.objective import Objective
from kinoclip.training.recipe import Recipe, load_recipe
from kinoclip.training.starting import start_model

LABELS = ["red circle", "blue square", "green star"]


def _objective(name, **settings):
    recipe = load_recipe(name).with_settings({key.replace("__", "."): value for key, value in settings.items()})
    model, processor = start_model(recipe, LABELS)
    choose_trained(model, recipe.training)
    return model, Objective(model, processor, recipe, LABELS)


def _batch(labels):
    return {
        "pixel_values_videos": torch.randn(2, 4, 3, 48, 48),
        "labels": torch.tensor(labels),
        "index": torch.tensor([0, 1]),
    }


def test_frozen_captions_are_rows_of_what_was_encoded_once():
    _, objective = _objective("kinoshapes/bike")
    inputs = objective.inputs(_batch([2, 2]))
    assert inputs["candidate_labels"].tolist() == [2, 2]
    assert torch.equal(inputs["text_features"].embeds, objective.text.embeds[:, [2, 2]])
    assert torch.equal(inputs["text_features"].words, objective.text.words[[2, 2]])
    assert "input_ids" not in inputs


def test_trained_captions_are_encoded_in_each_step():
    _, objective = _objective("kinoshapes/bike", model__freeze_text=False)
    inputs = objective.inputs(_batch([2, 0]))
    assert objective.text is None
    assert torch.equal(inputs["input_ids"], objective.encoded["input_ids"][:, [2, 0]])


ACTIONCLIP = Recipe.from_dict(
    "actionclip",
    {"method": "actionclip", "start": "mini", "model": {"num_frames": 4}, "training": {"objective": "captions"}},
)


@pytest.mark.parametrize("freeze_text", [True, False])
def test_a_caption_is_the_label_in_one_template_drawn_for_each_video(freeze_text):
    recipe = ACTIONCLIP.with_settings({"model.freeze_text": freeze_text})
    model, processor = start_model(recipe, LABELS)
    choose_trained(model, recipe.training)
    objective = Objective(model, processor, recipe, LABELS)
    # of 16 templates, 19 % 16 = 3 and 16 % 16 = 0
    inputs = objective.inputs({**_batch([2, 2]), "draw": torch.tensor([19, 16])})
    if freeze_text:
        assert torch.equal(inputs["text_features"].embeds, objective.text.embeds[[3, 0], [2, 2]][None])
    else:
        assert torch.equal(inputs["input_ids"], processor.encode_labels(LABELS)["input_ids"][[3, 0], [2, 2]][None])


def test_the_loss_of_the_frozen_video_branch_is_left_out_where_attributes_are_trained():
    settings = {"model__attributes": "shared", "model__train_branch": "attributes"}
    model, objective = _objective("kinoshapes/bike", **settings)
    objective.attributes = torch.ones(2, 77, dtype=torch.long)
    inputs = objective.inputs(_batch([2, 0]))
    assert objective.losses(model(**inputs), inputs["labels"]).keys() == {"attributes"}


def test_all_classes_come_without_their_ids_so_that_processes_do_not_gather_them():
    _, objective = _objective("kinoshapes/text4vis")
    assert "candidate_labels" not in objective.inputs(_batch([2, 0]))


def test_several_labels_can_be_questions_of_yes_or_no():
    model, objective = _objective("kinoshapes/text4vis", training__multi_label="yes_no")
    inputs = objective.inputs(_batch([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    output = model(**inputs)
    losses = objective.losses(output, inputs["labels"])
    assert losses.keys() == {"yes_no"}
    torch.testing.assert_close(losses["yes_no"], binary_cross_entropy(output.logits, inputs["labels"]))


def test_a_video_with_several_labels_has_no_caption():
    _, objective = _objective("kinoshapes/bike")
    with pytest.raises(ValueError, match=r'Set training.objective = "candidates"'):
        objective.inputs(_batch([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
