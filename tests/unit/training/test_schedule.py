import pytest
import torch

from kinoclip.training.schedule import (
    build_scheduler,
    cosine_with_warmup,
    official_learning_rates,
    refreshed_epoch,
)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0.0, 0.0),
        (2.5, 0.5),  # half of the warm-up
        (5.0, 1.0),
        (17.5, 0.5),  # half of the cosine: (17.5 - 5) / 25
        (30.0, 0.0),
        (31.0, 0.0),
    ],
)
def test_the_rate_rises_to_its_base_and_falls_to_zero(epoch, expected):
    assert cosine_with_warmup(epoch, 1.0, warmup_epochs=5, epochs=30) == pytest.approx(expected, abs=1e-12)


def test_a_rate_without_warm_up_starts_at_its_base():
    assert cosine_with_warmup(0.0, 3e-4, warmup_epochs=0, epochs=10) == 3e-4


def test_a_run_shorter_than_its_warm_up_only_rises():
    # 1 of 5 epochs: at 0.9, 0.9 / 5
    assert cosine_with_warmup(0.9, 1.0, warmup_epochs=5, epochs=1) == pytest.approx(0.18)


def test_a_run_that_ends_with_its_warm_up_ends_at_zero():
    assert cosine_with_warmup(5.0, 1.0, warmup_epochs=5, epochs=5) == 0.0


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(5.0, 1.0), (17.5, 0.505), (30.0, 0.01)],  # halfway between 1 and 0.01: 0.505
)
def test_a_final_scale_lifts_the_end_of_the_cosine(epoch, expected):
    assert cosine_with_warmup(epoch, 1.0, 5, 30, final_scale=0.01) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0),
        (8, 0.0),
        (9, 9 / 25),  # (9 + 1) % 10 == 0
        (18, 9 / 25),
        (19, 19 / 25),
        (24, 19 / 25),
        (25, 1.0),  # the first iteration of an epoch
        (33, 1.0),
        (34, 1 + 9 / 25),
    ],
)
def test_the_rate_is_refreshed_at_the_start_of_an_epoch_and_every_tenth_iteration(step, expected):
    assert refreshed_epoch(step, iterations_per_epoch=25) == pytest.approx(expected)


def test_refreshing_every_step_gives_the_exact_epoch():
    assert refreshed_epoch(33, iterations_per_epoch=25, refresh_every=1) == pytest.approx(33 / 25)


@pytest.mark.parametrize(("iterations", "refresh_every"), [(0, 10), (25, 0)])
def test_counts_below_one_are_an_error(iterations, refresh_every):
    with pytest.raises(ValueError, match="Both must be at least 1"):
        refreshed_epoch(0, iterations, refresh_every)


def test_the_first_nine_steps_of_an_official_run_do_not_learn():
    # The rate of the tenth step of 49 per epoch, from the authors' K400 log: 5e-5 * (9 / 49) / 5 = 1.84e-6.
    rates = official_learning_rates(5e-5, warmup_epochs=5, epochs=20, iterations_per_epoch=49)

    assert len(rates) == 20 * 49
    assert rates[:9] == [0.0] * 9
    assert rates[9] == pytest.approx(1.84e-6, abs=5e-9)


def test_the_scheduler_drives_every_group_from_its_own_base_rate():
    weight, head = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([{"params": [weight], "lr": 2e-4}, {"params": [head], "lr": 2e-3}])
    scheduler = build_scheduler(optimizer, warmup_epochs=1, epochs=2, iterations_per_epoch=13)

    rates = []
    for _ in range(26):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()

    assert [pair[0] for pair in rates] == pytest.approx(official_learning_rates(2e-4, 1, 2, 13), abs=1e-15)
    assert [pair[1] for pair in rates] == pytest.approx(official_learning_rates(2e-3, 1, 2, 13), abs=1e-15)
