import pytest
import torch
from torch import nn

from kinoclip.training.optimizer import is_clip_parameter, parameter_groups
from kinoclip.training.settings import TrainingSettings
from kinoclip.training.setup import build_optimizer


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
def test_clip_parameters_are_known_by_their_names(name, expected):
    assert is_clip_parameter(name) is expected


def test_clip_learns_ten_times_slower_than_new_modules(model):
    groups = parameter_groups(model, base_lr=5e-5)

    assert [group["name"] for group in groups] == ["backbone", "head"]
    assert [group["lr"] for group in groups] == pytest.approx([5e-6, 5e-5])


def test_frozen_parameters_are_left_out(model):
    backbone, head = parameter_groups(model, base_lr=5e-5)

    # Parameters come in the model's order: its own first, then its modules'.
    assert [id(parameter) for parameter in backbone["params"]] == [
        id(model.logit_scale),
        id(model.vision_model.weight),
        id(model.vision_model.bias),
    ]
    assert [id(parameter) for parameter in head["params"]] == [
        id(model.temporal_head.weight),
        id(model.temporal_head.bias),
    ]


def test_every_trainable_tensor_decays_by_default(model):
    assert [group["weight_decay"] for group in parameter_groups(model, base_lr=5e-5)] == [0.2, 0.2]


def test_parameters_can_be_kept_from_decaying(model):
    groups = parameter_groups(model, base_lr=1.0, decays=lambda name, parameter: parameter.ndim > 1)

    # Only vision_model.weight has two axes; the head's own two are a LayerNorm.
    assert [(group["name"], len(group["params"]), group["weight_decay"]) for group in groups] == [
        ("backbone", 1, 0.2),
        ("backbone_no_decay", 2, 0.0),
        ("head_no_decay", 2, 0.0),
    ]


def test_a_model_without_new_modules_has_one_group(model):
    model.temporal_head = nn.Identity()

    assert [group["name"] for group in parameter_groups(model, base_lr=1.0)] == ["backbone"]


def test_another_rule_can_say_what_the_backbone_is(model):
    groups = parameter_groups(model, base_lr=1.0, is_backbone=lambda name: name.startswith("temporal_head"))

    assert [len(group["params"]) for group in groups] == [2, 3]


def test_adamw_takes_the_groups_with_the_official_defaults(model):
    optimizer = torch.optim.AdamW(parameter_groups(model, base_lr=5e-5))

    assert [group["betas"] for group in optimizer.param_groups] == [(0.9, 0.999)] * 2
    assert [group["eps"] for group in optimizer.param_groups] == [1e-8] * 2


def test_a_model_without_trainable_parameters_is_an_error(model):
    with pytest.raises(ValueError, match="Module has no trainable parameter"):
        parameter_groups(model.requires_grad_(False), base_lr=5e-5)


def test_a_named_module_has_a_rate_of_its_own_wherever_its_name_stands(model):
    model.decoder = nn.ModuleDict({"vision_model": nn.Linear(2, 3)})
    groups = {group["name"]: group["lr"] for group in parameter_groups(model, 1.0, 0.1, rates={"decoder": 7.0})}
    assert groups == {"backbone": 0.1, "head": 1.0, "decoder": 7.0}


def test_a_rate_for_a_module_that_is_not_trained_is_refused(model):
    with pytest.raises(
        ValueError, match=r"training.groups names 'decoder', and no trained parameter .* Modules: logit_scale"
    ):
        parameter_groups(model, 1.0, rates={"decoder": 7.0})


def test_sgd_has_the_momentum_and_decay_of_the_settings(model):
    optimizer = build_optimizer(model, TrainingSettings(optimizer="sgd", lr=0.1, momentum=0.5, weight_decay=5e-4))
    assert type(optimizer) is torch.optim.SGD
    assert {(group["momentum"], group["weight_decay"]) for group in optimizer.param_groups} == {(0.5, 5e-4)}
