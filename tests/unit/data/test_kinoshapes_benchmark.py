"""The fixed tasks and splits of KinoShapes."""

import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from kinoclip.data import Coverage, MissingSplitError, load_videos
from kinoclip.data.kinoshapes import render
from kinoclip.data.kinoshapes.benchmark import CLIPS_PER_CLASS, TASKS, action_classes, benchmark_dataset, chinese_names
from kinoclip.data.samples import class_names
from kinoclip.video import VideoReader


def test_the_task_of_actions_has_nine_objects_six_motions_four_orders_and_three_needles():
    groups = Counter(known.group for known in action_classes())

    assert groups == {"appearance": 9, "motion": 6, "order": 4, "needle": 3}


def test_the_task_of_motions_has_the_motions_of_actions_in_other_clips():
    motions = action_classes("motions")

    assert [known.label for known in motions] == [known.label for known in action_classes() if known.group == "motion"]
    alone = benchmark_dataset("motions", "test", clips_per_class=1)
    among_others = benchmark_dataset("actions", "test", clips_per_class=1)
    assert not {row["video"]["bytes"] for row in alone} & {row["video"]["bytes"] for row in among_others}


def test_no_unseen_class_is_among_the_actions():
    seen = {known.label for known in action_classes()}

    assert seen.isdisjoint(known.label for known in action_classes("unseen"))


@pytest.mark.parametrize("task", TASKS)
def test_every_class_has_a_chinese_name_of_its_own(task):
    names = chinese_names(task)

    assert len(set(names.values())) == len(action_classes(task))
    assert all("\u4e00" <= letter <= "\u9fff" for name in names.values() for letter in name)


def test_every_class_has_as_many_clips_as_the_others():
    dataset = benchmark_dataset(split="test", clips_per_class=2)

    assert set(Counter(dataset["label"]).values()) == {2}
    assert class_names(dataset)[9] == "moving left"


def test_splits_share_no_clip():
    digests = {
        split: {
            hashlib.blake2b(row["video"]["bytes"]).digest()
            for row in benchmark_dataset(split=split, clips_per_class=1)
        }
        for split in ("train", "validation", "test")
    }

    assert not digests["train"] & digests["test"]
    assert not digests["train"] & digests["validation"]


def test_more_clips_begin_with_the_same():
    few = benchmark_dataset(split="train", clips_per_class=1)
    more = benchmark_dataset(split="train", clips_per_class=2)

    assert more.select(range(len(few)))["video"] == few["video"]


def test_the_frames_of_an_action_and_of_its_reversal_are_distributed_alike():
    # the mean frame over many clips of "moving left" is that of "moving right", though their first frames are not
    left, right = (known for known in action_classes() if known.label in ("moving left", "moving right"))
    rng = np.random.default_rng(0)
    pictures = [
        np.mean([render(known.draw(rng)).masks.astype(float) for _ in range(60)], axis=0) for known in (left, right)
    ]

    assert np.abs(pictures[0].mean(0) - pictures[1].mean(0)).max() < 0.2
    assert np.abs(pictures[0][0] - pictures[1][0]).max() > 0.5
    assert np.abs(pictures[0][0] - pictures[1][-1]).max() < 0.3


def test_a_needle_is_there_for_two_frames_of_sixteen():
    needle = next(known for known in action_classes() if known.group == "needle")
    spec = needle.draw(np.random.default_rng(0))

    assert [segment.end - segment.start for segment in spec.segments][1] == 2
    assert spec.num_frames == 16


def test_clips_of_several_labels_name_all_that_comes():
    row = benchmark_dataset("several", "test", clips_per_class=1)[0]
    names = class_names(benchmark_dataset("several", "test", clips_per_class=1))

    assert sorted(names[i] for i in row["label"]) == sorted(span["label"] for span in row["spans"])
    assert len(row["label"]) == 3


def test_untrimmed_clips_say_when_each_object_is_there():
    row = benchmark_dataset("untrimmed", "test", clips_per_class=1)[0]

    with VideoReader(row["video"]["bytes"]) as reader:
        assert reader.num_frames == 64
    spans = row["spans"]
    assert all(before["end_seconds"] < after["start_seconds"] for before, after in pairwise(spans))


def test_unknown_tasks_and_splits_are_named():
    with pytest.raises(ValueError, match="no task 'verbs'"):
        action_classes("verbs")
    with pytest.raises(ValueError, match="'dev' is no split"):
        benchmark_dataset(split="dev")


def test_a_task_is_loaded_by_name(monkeypatch):
    monkeypatch.setitem(CLIPS_PER_CLASS, "test", 1)

    loaded = load_videos("kinoshapes/unseen", split="test")

    assert len(loaded) == 10
    assert loaded[0]["name"] == "unseen/test/00000.mp4"
    assert Coverage.of(loaded).dataset == "kinoshapes"


def test_a_task_without_a_split_or_of_another_name_is_refused():
    with pytest.raises(MissingSplitError, match="drawn split by split"):
        load_videos("kinoshapes/actions")
    with pytest.raises(ValueError, match="no task 'sports'"):
        load_videos("kinoshapes/sports", split="test")
