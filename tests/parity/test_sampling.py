"""Frame indices against tables recorded from the authors' code."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinoclip.video import sampling

RECORDINGS = Path(__file__).parent / "recordings"


def rows(name: str) -> Any:
    return json.loads((RECORDINGS / f"sampling_{name}.json").read_text())["rows"]


def replay(draws: Iterable[list[Any]]) -> Callable[[int, int], int]:
    """Answer each request with the recorded value, and refuse a request with other bounds."""
    recorded = []
    for low, high, value in draws:
        values = value if isinstance(value, list) else [value]
        recorded += [(low, high, one) for one in values]
    queue = iter(recorded)

    def draw(low: int, high: int) -> int:
        expected_low, expected_high, value = next(queue)
        assert (low, high) == (expected_low, expected_high)
        return int(value)

    return draw


def seeded(seed: int) -> Callable[[int, int], int]:
    state = np.random.RandomState(seed)
    return lambda low, high: int(state.randint(low, high))


@pytest.mark.parametrize("paper", ["bike", "text4vis"])
def test_a_single_view_takes_the_segment_starts_of_the_official_code(paper):
    table = rows(paper)["val"]
    assert [sampling.segment_starts(n, t) for n, t, _ in table] == [expected for *_, expected in table]


@pytest.mark.parametrize("paper", ["bike", "text4vis"])
def test_several_clips_start_where_the_official_test_script_starts_them(paper):
    table = rows(paper)["test"]
    assert [sampling.segment_starts(n, t, c) for n, t, c, _ in table] == [expected for *_, expected in table]


@pytest.mark.parametrize("paper", ["bike", "text4vis"])
def test_dense_clips_lie_where_the_official_test_script_lays_them(paper):
    table = [row for row in rows(paper)["test_dense"] if row[-1] != "ZeroDivisionError"]
    assert [sampling.dense_windows(n, t, c) for n, t, c, _ in table] == [expected for *_, expected in table]


@pytest.mark.parametrize("mode", ["val_dense", "train_dense"])
@pytest.mark.parametrize("paper", ["bike", "text4vis"])
def test_a_random_dense_window_replays_the_official_draw(paper, mode):
    table = rows(paper)[mode]
    got = [sampling.random_dense_window(n, t, replay(draws)) for n, t, _, draws in table]
    assert got == [expected for _, _, expected, _ in table]


def test_bike_training_replays_the_official_draws_from_closed_segments():
    table = rows("bike")["train"]
    got = [sampling.random_in_closed_segments(n, t, replay(draws)) for n, t, _, draws in table]
    assert got == [expected for _, _, expected, _ in table]


@pytest.mark.parametrize(("paper", "mode"), [("bike", "train_video_attr_and_text4vis_style"), ("text4vis", "train")])
def test_segment_training_replays_the_official_draws(paper, mode):
    table = rows(paper)[mode]
    got = [sampling.random_in_segments(n, t, replay(draws)) for n, t, _, draws in table]
    assert got == [expected for _, _, expected, _ in table]


@pytest.mark.parametrize(
    ("paper", "mode", "choose"),
    [
        ("actionclip", "val", lambda r: sampling.segment_centers(r["num_frames"], r["num_segments"])),
        ("actionclip", "train", lambda r: sampling.random_in_segments(r["num_frames"], r["num_segments"], seeded(r["seed"]))),
        ("sllm", "val", lambda r: sampling.sample_indices("segment_center_but_last", r["listed_frames"], r["num_segments"])),
        (
            "sllm",
            "train",
            lambda r: sampling.sample_indices(
                "segment_center_but_last", r["listed_frames"], r["num_segments"], rng=seeded(r["seed"]), training=True
            ),
        ),
        ("sllm", "test_uniform_3clips", lambda r: sampling.segment_starts(r["num_frames"], r["num_segments"], 3)),
        ("sllm", "test_uniform_4clips", lambda r: sampling.segment_starts(r["num_frames"], r["num_segments"], 4)),
        ("sllm", "test_dense_3clips", lambda r: sampling.dense_windows(r["num_frames"], r["num_segments"], 3)),
        ("sllm", "test_dense_4clips", lambda r: sampling.dense_windows(r["num_frames"], r["num_segments"], 4)),
        ("text4vis", "val", lambda r: sampling.segment_starts(r["num_frames"], r["num_segments"])),
        ("text4vis", "train", lambda r: sampling.random_in_segments(r["num_frames"], r["num_segments"], seeded(r["seed"]))),
        (
            "text4vis",
            "train_dense",
            lambda r: sampling.random_dense_window(r["num_frames"], r["num_segments"], seeded(r["seed"])),
        ),
        ("text4vis", "val_dense", lambda r: sampling.random_dense_window(r["num_frames"], r["num_segments"], seeded(r["seed"]))),
        ("text4vis", "test_uniform_3clips", lambda r: sampling.segment_starts(r["num_frames"], r["num_segments"], 3)),
        ("text4vis", "test_uniform_4clips", lambda r: sampling.segment_starts(r["num_frames"], r["num_segments"], 4)),
        ("text4vis", "test_dense_3clips", lambda r: sampling.dense_windows(r["num_frames"], r["num_segments"], 3)),
        ("text4vis", "test_dense_4clips", lambda r: sampling.dense_windows(r["num_frames"], r["num_segments"], 4)),
    ],
)  # fmt: skip
def test_a_mode_of_the_official_dataset_gives_the_recorded_indices(paper, mode, choose):
    table = [row for row in rows(f"{paper}_seeded") if row["mode"] == mode]
    assert table
    assert [choose(row) for row in table] == [row["indices"] for row in table]


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("clips", [1, 3, 10])
def test_tam_evaluates_on_the_recorded_clips(clips, dense):
    table = [r for r in rows("tam_seeded") if r["mode"] == "val" and r["clips"] == clips and r["dense"] is dense]
    choose = sampling.strided_windows if dense else sampling.shifted_segment_centers
    assert [choose(r["num_frames"], r["num_segments"], clips) for r in table] == [r["indices"] for r in table]


def test_tam_trains_on_the_recorded_windows():
    table = [r for r in rows("tam_seeded") if r["mode"] == "train" and r["dense"]]
    got = [sampling.random_strided_window(r["num_frames"], r["num_segments"], seeded(r["seed"])) for r in table]
    assert got == [r["indices"] for r in table]


def test_tam_trains_with_the_recorded_shared_offsets():
    def seeded_choice(row: dict[str, Any]) -> Callable[[int, int], int]:
        # The authors draw with `choice`: without replacement for the offset, with it in a video shorter than T.
        state = np.random.RandomState(row["seed"])
        replace = row["num_frames"] < row["num_segments"]
        return lambda low, high: int(state.choice(high, 1, replace=replace)[0])

    table = [r for r in rows("tam_seeded") if r["mode"] == "train" and not r["dense"]]
    got = [sampling.random_shared_offset(r["num_frames"], r["num_segments"], seeded_choice(r)) for r in table]
    assert got == [r["indices"] for r in table]


@pytest.mark.parametrize("row", rows("sllm_frame_split"), ids=lambda row: f"T{row['T']}-r{row['r']}")
def test_frames_split_into_kept_restored_and_dropped_as_sllm_splits_them(row):
    assert sampling.split_kept_frames(row["T"], row["r"]) == (row["kept"], row["targets"], row["dropped"])
