"""The fixed tasks and splits of KinoShapes."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from kinoclip.data.samples import class_names
from kinoclip.kinoshapes import OBJECTS, render
from kinoclip.kinoshapes.benchmark import TASKS, action_classes, benchmark_dataset, chinese_names
from kinoclip.kinoshapes.benchmarks import check_words


def videos(task="actions", split="test", count=1):
    return [row["video"]["bytes"] for row in benchmark_dataset(task, split, clips_per_class=count)]


def test_the_task_of_actions_has_nine_objects_six_motions_four_orders_and_three_needles():
    groups = Counter(known.group for known in action_classes())
    assert groups == {"appearance": 9, "motion": 6, "order": 4, "needle": 3}
    motions = [known.label for known in action_classes() if known.group == "motion"]
    assert [known.label for known in action_classes("motions")] == motions
    assert {known.label for known in action_classes()}.isdisjoint(known.label for known in action_classes("unseen"))


def test_the_embedded_models_know_the_words_of_shapes_or_of_people():
    names = [name for task in TASKS for known in action_classes(task) for name in (known.label, known.paraphrase)]
    check_words("mini", [*names, *OBJECTS, "Some red circles on a noisy wall", "another shape", "nothing"])
    check_words(
        "mini-actions", ["waving a hand", "two people on a beach", "a person with bent knees", "lying on the back"]
    )
    check_words("some/clip", ["juggling"])
    with pytest.raises(ValueError, match=r"not 'juggling' in the label 'juggling balls'. Name a model for your own"):
        check_words("mini", ["red circle", "juggling balls"])
    with pytest.raises(ValueError, match=r"mini-actions knows what the people of the demo do only, not 'juggling'"):
        check_words("mini-actions", ["waving", "juggling"])


@pytest.mark.parametrize("task", TASKS)
def test_every_class_has_a_chinese_name_of_its_own(task):
    names = chinese_names(task)
    assert len(set(names.values())) == len(action_classes(task))
    assert all("\u4e00" <= letter <= "\u9fff" for name in names.values() for letter in name)


def test_tasks_and_splits_share_no_clip_and_more_clips_begin_with_the_same():
    train, more, validation, test, motions = (
        *(
            videos(split=split, count=count)
            for split, count in (("train", 1), ("train", 2), ("validation", 1), ("test", 1))
        ),
        videos("motions"),
    )
    assert more[: len(train)] == train
    assert len({*train, *validation, *test, *motions}) == 3 * 22 + 6


def test_every_class_has_as_many_clips_as_the_others():
    dataset = benchmark_dataset("motions", "test", clips_per_class=2)
    assert dataset["label"] == [*range(6), *range(6)]
    assert class_names(dataset)[0] == "moving left"


def test_the_frames_of_an_action_and_of_its_reversal_are_distributed_alike():
    # the mean frame over many clips of "moving left" is that of "moving right", but their first frames are not
    left, right = (known for known in action_classes() if known.label in ("moving left", "moving right"))
    rng = np.random.default_rng(0)
    left, right = (
        np.mean([render(known.draw(rng)).masks.astype(float) for _ in range(60)], axis=0) for known in (left, right)
    )
    assert np.abs(left.mean(0) - right.mean(0)).max() < 0.2
    assert np.abs(left[0] - right[0]).max() > 0.5
    assert np.abs(left[0] - right[-1]).max() < 0.3


def test_a_needle_is_visible_for_two_frames_of_sixteen():
    needle = next(known for known in action_classes() if known.group == "needle")
    spec = needle.draw(np.random.default_rng(0))
    assert (spec.segments[1].end - spec.segments[1].start, spec.num_frames) == (2, 16)


@pytest.mark.parametrize(("task", "num_frames"), [("several", 24), ("untrimmed", 64)])
def test_clips_of_several_labels_have_a_span_of_each(task, num_frames):
    dataset = benchmark_dataset(task, "test", clips_per_class=1)
    row, names = dataset[0], class_names(dataset)
    assert len(row["label"]) == 3
    assert sorted(names[i] for i in row["label"]) == sorted(span["label"] for span in row["spans"])
    gaps = [after["start_frame"] - before["end_frame"] for before, after in pairwise(row["spans"])]
    assert all(gap > 0 for gap in gaps) if task == "untrimmed" else gaps == [0, 0]
    assert row["spans"][-1]["end_frame"] <= num_frames


def test_unknown_tasks_and_splits_are_refused():
    with pytest.raises(ValueError, match=r"must be one of actions, .*, got 'verbs'"):
        action_classes("verbs")
    with pytest.raises(ValueError, match="must be one of train, validation, test, got 'dev'"):
        benchmark_dataset(split="dev")
