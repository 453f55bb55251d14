"""Parameter groups and schedules; `tests/parity` and `tests/trajectory` compare them with the official ones."""

import pytest
import torch
from torch import nn

from kinoclip.training.optimization import (
    build_optimizer,
    cosine_with_warmup,
    is_clip_parameter,
    parameter_groups,
    refreshed_epoch,
)
from kinoclip.training.settings import TrainingSettings


@pytest.fixture
def model() -> nn.Module:
    model = nn.Module()
    model.vision_model = nn.Linear(2, 3)
    model.text_model = nn.Linear(2, 3).requires_grad_(False)
    model.logit_scale = nn.Parameter(torch.tensor(4.6))
    model.temporal_head = nn.LayerNorm(3)
    return model


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vision_model.encoder.layers.0.mlp.fc1.weight", True),
        ("visual_projection.weight", True),
        ("text_projection.weight", True),
        ("logit_scale", True),
        ("recognizer.vision_model.post_layernorm.bias", True),
        ("temporal_head.layers.0.mlp.fc1.weight", False),
        ("attributes.query.0.weight", False),
    ],
)
def test_clip_parameters_are_recognized_by_name(name, expected):
    assert is_clip_parameter(name) is expected


def test_clip_learns_ten_times_slower_than_new_modules_and_frozen_parameters_are_left_out(model):
    groups = parameter_groups(model, base_lr=5e-5)
    assert [group["name"] for group in groups] == ["backbone", "head"]
    assert [group["lr"] for group in groups] == pytest.approx([5e-6, 5e-5])
    assert [group["weight_decay"] for group in groups] == [0.2, 0.2]
    # logit_scale, weight and bias of the vision tower; weight and bias of the head
    assert [len(group["params"]) for group in groups] == [3, 2]


def test_parameters_can_be_excluded_from_weight_decay(model):
    groups = parameter_groups(model, base_lr=1.0, decays=lambda name, parameter: parameter.ndim > 1)
    # only vision_model.weight has two axes
    assert [(group["name"], len(group["params"]), group["weight_decay"]) for group in groups] == [
        ("backbone", 1, 0.2),
        ("backbone_no_decay", 2, 0.0),
        ("head_no_decay", 2, 0.0),
    ]


def test_a_named_module_has_a_rate_of_its_own(model):
    model.decoder = nn.ModuleDict({"vision_model": nn.Linear(2, 3)})
    groups = {group["name"]: group["lr"] for group in parameter_groups(model, 1.0, 0.1, rates={"decoder": 7.0})}
    assert groups == {"backbone": 0.1, "head": 1.0, "decoder": 7.0}


def test_groups_without_trained_parameters_are_refused(model):
    with pytest.raises(ValueError, match=r"names 'decoder', but no trained parameter .* Modules: logit_scale"):
        parameter_groups(model, 1.0, rates={"decoder": 7.0})
    with pytest.raises(ValueError, match="Module has no trainable parameter"):
        parameter_groups(model.requires_grad_(False), base_lr=5e-5)


def test_sgd_has_the_momentum_and_decay_of_the_settings(model):
    optimizer = build_optimizer(model, TrainingSettings(optimizer="sgd", lr=0.1, momentum=0.5, weight_decay=5e-4))
    assert type(optimizer) is torch.optim.SGD
    assert {(group["momentum"], group["weight_decay"]) for group in optimizer.param_groups} == {(0.5, 5e-4)}


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ((0.0, 1.0, 5, 30), 0.0),
        ((2.5, 1.0, 5, 30), 0.5),  # half of the warm-up
        ((5.0, 1.0, 5, 30), 1.0),
        ((17.5, 1.0, 5, 30), 0.5),  # half of the cosine: (17.5 - 5) / 25
        ((31.0, 1.0, 5, 30), 0.0),
        ((17.5, 1.0, 5, 30, 0.01), 0.505),  # halfway between 1 and 0.01
        ((30.0, 1.0, 5, 30, 0.01), 0.01),
        ((0.0, 3e-4, 0, 10), 3e-4),  # no warm-up
        ((0.9, 1.0, 5, 1), 0.18),  # shorter than its warm-up: 0.9 / 5
        ((5.0, 1.0, 5, 5), 0.0),  # ends with its warm-up
    ],
)
def test_the_rate_rises_to_its_base_and_falls_along_a_cosine(position, expected):
    assert cosine_with_warmup(*position) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(8, 0.0), (9, 9 / 25), (18, 9 / 25), (24, 19 / 25), (25, 1.0), (33, 1.0), (34, 1 + 9 / 25)],
)
def test_the_rate_is_refreshed_at_the_start_of_an_epoch_and_every_tenth_iteration(step, expected):
    assert refreshed_epoch(step, iterations_per_epoch=25) == pytest.approx(expected)
    assert refreshed_epoch(step, iterations_per_epoch=25, refresh_every=1) == pytest.approx(step / 25)
