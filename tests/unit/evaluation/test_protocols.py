import json

import pytest
import torch

from kinoclip.evaluation.protocols import evaluate_classes, half_class_splits, recorded_recipe

# Six videos of four classes; rows are videos, columns classes.
LABELS = torch.tensor([0, 1, 1, 2, 3, 3])
SCORES = torch.tensor(
    [
        [0.9, 0.0, 0.0, 0.1],
        [0.6, 0.4, 0.0, 0.0],
        [0.0, 0.8, 0.2, 0.0],
        [0.0, 0.0, 0.3, 0.7],
        [0.0, 0.6, 0.0, 0.4],
        [0.1, 0.0, 0.2, 0.7],
    ]
)


def score(videos: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return SCORES[videos][:, classes]


@pytest.mark.parametrize(("num_classes", "kept"), [(2, 1), (51, 25), (101, 50)])
def test_half_of_an_odd_number_of_classes_is_rounded_down(num_classes, kept):
    splits = half_class_splits(num_classes)
    assert [len(split) for split in splits] == [kept] * 10


def test_one_class_cannot_be_halved():
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        half_class_splits(1)


def test_only_videos_of_the_kept_classes_count_and_only_these_classes_can_be_chosen():
    # Classes 1 and 3: videos 1, 2, 4, 5. Video 1 now has 0.4 against 0.0 and is right; video 4 stays wrong: 3/4.
    result = evaluate_classes(score, LABELS, [3, 1])
    assert result == {"videos": 4, "top1": 0.75, "top5": 1.0}


def test_all_classes_give_the_full_class_accuracy():
    # Right: videos 0, 2 and 5 of six.
    assert evaluate_classes(score, LABELS, range(4))["top1"] == 0.5


def test_classes_without_videos_are_an_error():
    with pytest.raises(ValueError, match=r"At least one of 6 videos must have a class in \[8, 9\]"):
        evaluate_classes(score, LABELS, [9, 8])


def test_the_recipe_of_a_folder_is_read(tmp_path):
    (tmp_path / "training.json").write_text(json.dumps({"recipe": {"name": "bike/t1"}}))
    assert recorded_recipe(tmp_path) == {"name": "bike/t1"}
    (tmp_path / "training.json").write_text('{"recipe": ')
    with pytest.raises(ValueError, match=r"The record of the training in .* could not be read"):
        recorded_recipe(tmp_path)


@pytest.mark.parametrize("source", ["mini", "{folder}", "nobody/never-published"])
def test_a_model_without_a_record_has_no_recipe(source, tmp_path):
    assert recorded_recipe(source.replace("{folder}", str(tmp_path))) is None
