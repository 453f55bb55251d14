"""Two processes follow one, with the same videos per update; labels repeat within a batch and across processes."""

import json
from collections import Counter

import pytest

from kinoclip.data import load_videos
from kinoclip.training.batching import BatchPlan

from .runs import COMPARED


@pytest.mark.parametrize("name", COMPARED)
def test_two_processes_have_the_losses_of_one(trained, name):
    one, two = (json.loads((trained[count] / name / "training.json").read_text()) for count in (1, 2))
    assert (one["processes"], two["processes"]) == (1, 2)
    losses = [[epoch["losses"] for epoch in told["history"]] for told in (one, two)]
    assert losses[1] == [pytest.approx(epoch, abs=1e-5) for epoch in losses[0]]


def test_the_captions_of_the_first_update_repeat_across_processes(shapes_folder):
    labels = load_videos(shapes_folder)["label"]
    plan = BatchPlan.fitting(len(labels), 8, processes=2)
    halves = [Counter(labels[row] for row in plan.micro_batches(0, process)[0]) for process in range(2)]
    assert halves[0] & halves[1]
