from itertools import chain

import pytest
import torch

from kinoclip.data.samples import VideoSamples
from kinoclip.training.batching import BatchPlan, ReadableSamples, seed_micro_batch, update_batches
from kinoclip.training.starting import start_model
from kinoclip.video import VideoDecodeError


def _chain(parts) -> list[int]:
    return list(chain.from_iterable(parts))


def _updates(plan: BatchPlan, epoch: int = 0) -> list[list[int]]:
    """Give the rows of each update, over all processes and micro-batches, in order."""
    parts = [plan.micro_batches(epoch, process) for process in range(plan.processes)]
    micro = [_chain(rows) for rows in zip(*parts, strict=True)]
    return [_chain(micro[i : i + plan.accumulation]) for i in range(0, len(micro), plan.accumulation)]


@pytest.mark.parametrize(
    "parts", [{"processes": 2}, {"accumulation": 4}, {"processes": 2, "accumulation": 2}], ids=str
)
def test_an_update_sees_the_same_videos_in_the_same_order_however_it_is_shared_out(parts):
    whole = BatchPlan.fitting(21, 8, seed=3)
    assert _updates(BatchPlan.fitting(21, 8, seed=3, **parts)) == _updates(whole)


def test_an_epoch_takes_each_video_once_at_most_and_another_epoch_another_order():
    plan = BatchPlan.fitting(21, 4)
    first = _chain(_updates(plan, 0))
    assert len(first) == len(set(first)) == 20  # five updates of four; one video waits
    assert _chain(_updates(plan, 1)) != first


def test_each_pass_of_a_repeated_epoch_has_items_of_its_own():
    items = _chain(_updates(BatchPlan.fitting(4, 2, repeat=3)))
    assert sorted(items) == list(range(12))
    assert {item % 4 for item in items[:4]} == {0, 1, 2, 3}


def test_a_resumed_epoch_takes_the_rest_of_its_updates():
    plan = BatchPlan.fitting(16, 4, accumulation=2)
    assert plan.micro_batches(1, 0, first_update=2) == plan.micro_batches(1, 0)[4:]


def test_fewer_videos_than_a_batch_make_a_batch_that_is_shared_evenly():
    assert BatchPlan.fitting(11, 32, accumulation=2, processes=2).batch_size == 8


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(
        ValueError, match="batch_size is 8, which 3 processes with 1 micro-batches do not share evenly"
    ):
        BatchPlan.fitting(20, 8, processes=3)
    with pytest.raises(ValueError, match="There are 3 videos for 4 micro-batches"):
        BatchPlan.fitting(3, 8, accumulation=4)


def test_random_numbers_of_a_micro_batch_depend_on_its_place_alone():
    draws = []
    for place in ((0, 5, 1, 0), (0, 5, 1, 1), (0, 5, 1, 0)):
        seed_micro_batch(*place)
        draws.append(torch.rand(3).tolist())
    assert draws[0] == draws[2] != draws[1]


@pytest.fixture
def broken(shapes, recipe):
    """Samples whose third video is no video."""
    rows = [dict(row) for row in shapes.select_columns(["video", "label", "name"])]
    rows[2]["video"] = {"bytes": b"no video", "path": None}
    dataset = type(shapes).from_list(rows, features=shapes.select_columns(["video", "label", "name"]).features)
    _, processor = start_model(recipe, ["a"])
    return VideoSamples(dataset, processor.video_processor, seed=1)


def test_another_video_takes_the_place_of_an_unreadable_one_and_the_batch_says_so(broken):
    first, again = ReadableSamples(broken)[2], ReadableSamples(broken)[2]
    assert first["index"] == again["index"] != 2
    assert [row for row, _ in first["failed"]] == [2]
    assert "clip-2.mp4" in first["failed"][0][1]


def test_a_data_set_without_a_readable_video_is_given_up(broken):
    broken.dataset = broken.dataset.select([2])
    with pytest.raises(VideoDecodeError, match=r"clip-2.mp4"):
        ReadableSamples(broken)[0]


def test_batches_come_in_groups_of_an_update(broken):
    plan = BatchPlan.fitting(12, 4, accumulation=2)
    updates = list(update_batches(broken, plan, epoch=0, process=0))
    assert [[len(batch["labels"]) for batch in update] for update in updates] == [[2, 2]] * 3
