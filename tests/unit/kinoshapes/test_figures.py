"""KinoFigures: poses, masks, spans and captions agree, and the tasks are what they claim to be."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from kinoclip.data import load_videos
from kinoclip.data.coverage import Coverage
from kinoclip.kinoshapes import clip_generator
from kinoclip.kinoshapes.benchmarks import BENCHMARKS, find_corpus
from kinoclip.kinoshapes.figures.acting import FigureSegment, FigureSpec, cast
from kinoclip.kinoshapes.figures.actions import ACTIONS, DETAILS, UNSEEN
from kinoclip.kinoshapes.figures.benchmark import (
    FIGURE_TASKS,
    chinese_dictionary,
    figure_classes,
    figure_clips,
    figures_dataset,
    sample_figures,
)
from kinoclip.kinoshapes.figures.drawing import PARTS, THINGS, part_id
from kinoclip.kinoshapes.figures.naming import POSES, name_pose
from kinoclip.kinoshapes.figures.places import PLACES
from kinoclip.kinoshapes.figures.scenes import render_figures
from kinoclip.kinoshapes.figures.skeleton import JOINTS

EVERY = (*ACTIONS, *UNSEEN, *DETAILS)
BY_LABEL = {action.label: action for action in EVERY}
BONES = [
    (f"{side} {a}", f"{side} {b}") for side in ("left", "right") for a, b in pairwise(("shoulder", "elbow", "hand"))
]
BONES += [(f"{side} {a}", f"{side} {b}") for side in ("left", "right") for a, b in pairwise(("hip", "knee", "ankle"))]


def act(label, start=0, end=16, seed=3, **options):
    return FigureSpec((FigureSegment(label, start, end),), seed=seed, **options)


def joints_of(spec):
    return cast(spec, np.random.default_rng(spec.seed)).joints


def samples(task, action, count, split="train"):
    return [sample_figures(clip_generator(5, split, index), task, action) for index in range(count)]


def test_the_same_spec_gives_the_same_bytes_and_another_seed_others():
    first, again, other = (render_figures(act("waving", seed=seed)) for seed in (3, 3, 4))
    assert first.frames.tobytes() == again.frames.tobytes()
    assert first.parts.tobytes() == again.parts.tobytes()
    assert (first.frames.shape, first.frames.dtype) == ((16, 96, 128, 3), np.uint8)
    assert not np.array_equal(first.frames, other.frames)


def test_there_are_24_actions_and_each_has_a_name_of_its_own_in_both_languages():
    assert len(ACTIONS) >= 24
    assert len({action.label for action in EVERY}) == len({action.chinese for action in EVERY}) == len(EVERY)
    assert all("\u4e00" <= letter <= "\u9fff" for action in EVERY for letter in action.chinese)
    assert min(len(action.synonyms) for action in (*ACTIONS, *UNSEEN)) >= 2
    assert {action.label for action in ACTIONS if action.partner} >= {"shaking hands", "passing a box", "chasing"}


@pytest.mark.parametrize("action", EVERY, ids=lambda action: action.label)
def test_bones_keep_their_length_and_nobody_sinks_into_the_floor(action):
    for joints in joints_of(act(action.label)):
        for first, last in BONES:
            lengths = np.linalg.norm(joints[:, JOINTS.index(first)] - joints[:, JOINTS.index(last)], axis=1)
            assert np.ptp(lengths) < 1e-6
        assert joints[..., 1].min() > -0.12  # a hand or a toe may touch it


@pytest.mark.parametrize("label", ["waving", "jumping jacks", "push-ups", "shaking hands", "falling down"])
def test_joints_are_inside_the_masks_of_their_parts(label):
    clip = render_figures(act(label, end=8, num_frames=8, height=128, width=128))
    people = np.concatenate([clip.masks, np.zeros_like(clip.masks[:, :1])], axis=1)
    inside = []
    for frame, (columns, rows) in (
        (t, xy) for t in range(8) for xy in clip.flat_joints[0, t, :15].round().astype(int)
    ):
        if 0 <= rows < 128 and 0 <= columns < 128 and clip.parts[frame, rows, columns] < part_id("ball"):
            inside.append(people[frame, rows, columns])
    assert len(inside) > 90
    assert np.mean(inside) > 0.97
    head = clip.flat_joints[0, 0, JOINTS.index("head")].round().astype(int)
    assert clip.mask("head")[0, head[1], head[0]]


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        *[("sitting down", "standing up"), ("picking up a box", "putting down a box")],
        *[("falling down", "getting up from the floor"), ("raising the arms", "lowering the arms")],
    ],
)
def test_reversed_pairs_are_each_others_frames_in_the_opposite_order(forward, backward):
    first, second = joints_of(act(forward, 1, 14)), joints_of(act(backward, 2, 15))
    np.testing.assert_allclose(first[0], second[0][::-1], atol=1e-9)
    assert np.abs(first[0] - second[0]).max() > 0.3


def test_pairs_that_differ_in_one_limb_use_that_limb():
    for side, other in (("left", "right"), ("right", "left")):
        pose = name_pose(joints_of(act(f"raising the {side} arm"))[0][-1])
        assert f"{side} arm raised" in pose
        assert f"{other} arm raised" not in pose
        ankles = [
            joints_of(act(f"kicking with the {side} leg"))[0][:, JOINTS.index(f"{s} ankle"), 1].max()
            for s in (side, other)
        ]
        assert ankles[0] > ankles[1] + 0.3


@pytest.mark.parametrize(("number", "count"), [("once", 1), ("twice", 2), ("three times", 3)])
def test_counted_actions_are_done_as_often_as_they_say(number, count):
    heights = joints_of(act(f"bowing {number}", end=64, num_frames=64))[0][:, JOINTS.index("head"), 1]
    low = heights < (heights.min() + heights.max()) / 2
    assert np.count_nonzero(low[1:] & ~low[:-1]) == count


def test_things_are_where_the_action_needs_them():
    clip = render_figures(act("drinking", num_frames=16, height=128, width=128))
    joints = clip.joints[0]
    assert "cup" in clip.things
    assert any("hand at the face" in phrase for phrase in name_pose(joints[8]))
    assert {"box", "chair", "ball"} <= {prop.kind for action in ACTIONS for prop in action.props}
    kicked = render_figures(act("kicking a ball", seed=1, height=128, width=128))
    assert kicked.mask("ball")[0].any()


def test_actions_that_are_each_others_reversal_have_the_same_usual_place():
    pairs = [(ACTIONS[i - 1], action) for i, action in enumerate(ACTIONS) if action.reverse]
    assert len(pairs) == 4
    for pair in pairs:
        first, second = (Counter(spec.place for spec in samples("actions", action, 40)) for action in pair)
        assert first.most_common(1)[0][0] == second.most_common(1)[0][0]


def test_most_clips_of_a_class_show_its_place_and_shifted_ones_never():
    places = {}
    for task in ("actions", "shifted"):
        places[task] = [Counter(spec.place for spec in samples(task, action, 60)) for action in ACTIONS[:4]]
    for usual, shifted in zip(places["actions"], places["shifted"], strict=True):
        (own, count), *_ = usual.most_common(1)
        assert 0.6 < count / 60 < 0.98
        assert own not in shifted
        assert len(shifted) == len(PLACES) - 1


def test_people_of_the_task_of_views_wear_colors_that_training_does_not_have():
    shirts = {
        task: {cast(spec, np.random.default_rng(spec.seed)).looks[0].shirt for spec in samples(task, ACTIONS[0], 40)}
        for task in ("actions", "views")
    }
    assert len(shirts["views"]) == 3
    assert shirts["actions"].isdisjoint(shirts["views"])


@pytest.mark.parametrize(("task", "num_frames"), [("several", 24), ("untrimmed", 64)])
def test_clips_of_several_actions_have_a_span_of_each(task, num_frames):
    spec = samples(task, figure_classes(task)[0], 1)[0]
    segments = spec.segments
    assert len({segment.label for segment in segments}) == 3
    gaps = [after.start - before.end for before, after in pairwise(segments)]
    assert all(gap > 0 for gap in gaps) if task == "untrimmed" else gaps == [0, 0]
    assert (spec.num_frames, segments[-1].end <= num_frames) == (num_frames, True)
    if task == "untrimmed":
        outside = [t for t in range(num_frames) if all(not s.start - 1 <= t <= s.end for s in segments)]
        assert all("both arms down" in name_pose(joints_of(spec)[0][t]) for t in outside)


def test_captions_and_attributes_name_what_is_true():
    clip, _ = next(figure_clips("actions", "test"))
    assert clip.caption.startswith(f"a person in {clip.clothes} waving, ")
    assert clip.look.shirt in clip.caption
    assert clip.spans[0].caption == clip.caption
    attributes = clip.attributes(3)
    assert {"one person", clip.spec.place, f"seen from the {clip.views[0]}"} <= set(attributes)
    assert any(phrase.endswith("arm raised") for phrase in attributes)


def test_the_tasks_load_by_name_with_the_hash_of_the_code_that_draws_them():
    dataset = load_videos("kinofigures/unseen:1", split="train")
    assert dataset.features["label"].names == [action.label for action in UNSEEN]
    assert Coverage.of(dataset).generator == BENCHMARKS["kinofigures"].generator
    assert len(BENCHMARKS["kinofigures"].generator) == 16
    again = figures_dataset("unseen", "train", clips_per_class=1)
    assert [row["bytes"] for row in again["video"]] == [row["bytes"] for row in dataset["video"]]
    with pytest.raises(
        ValueError, match=r"KinoFigures must be one of kinofigures/actions, .*; got 'kinofigures/sports'"
    ):
        load_videos("kinofigures/sports", split="test")


def test_tasks_and_splits_share_no_clip():
    seeds = [
        sample_figures(clip_generator(20270 + number, split, 0), task, figure_classes(task)[0]).seed
        for number, task in enumerate(FIGURE_TASKS)
        for split in ("train", "validation", "test")
    ]
    assert len(set(seeds)) == len(FIGURE_TASKS) * 3


def test_the_corpus_has_body_parts_things_motions_and_places_and_the_dictionary_their_chinese():
    corpus = find_corpus("kinofigures")
    assert {entity.category for entity in corpus} == {"body", "object", "motion", "scene"}
    assert {entity.category for entity in find_corpus("kinofigures/parts")} == {"body", "object"}
    assert find_corpus("kinetics400") is None
    assert {*PARTS, *THINGS, *PLACES, "waving", "lunging"} <= chinese_dictionary().keys()
    assert chinese_dictionary()["waving"] == ("挥手", "招手", "摆手")


def test_unknown_actions_places_and_tasks_are_refused():
    with pytest.raises(ValueError, match=r"The action must be one of waving, .*, got 'flying'"):
        act("flying")
    with pytest.raises(ValueError, match=r"The place must be one of .*, got 'moon'"):
        act("waving", place="moon")
    with pytest.raises(ValueError, match="end within 8 frames"):
        act("waving", num_frames=8)
    with pytest.raises(ValueError, match="must be one of actions, views"):
        figure_classes("sports")


def test_every_name_of_a_pose_is_listed():
    labels = [action.label for action in (*ACTIONS, *UNSEEN)]
    named = {name for label in labels for joints in joints_of(act(label))[0] for name in name_pose(joints)}
    assert len(named) > 20
    assert named <= set(POSES)
