import pytest
import torch

from kinoclip.training.freezing import choose_trained, merge_adapters
from kinoclip.training.optimizer import parameter_groups
from kinoclip.training.starting import start_model


def _trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.fixture
def model(recipe):
    return start_model(recipe, ["a"])[0]


def test_the_method_decides_what_is_trained(model, recipe):
    choose_trained(model, recipe.training)
    trained = _trained(model)
    assert not any(name.startswith("text_model.") for name in trained)
    assert "visual_projection.weight" in trained


def test_everything_can_be_trained(model, recipe):
    choose_trained(model, recipe.with_settings({"training.freeze": "nothing"}).training)
    assert len(_trained(model)) == len(list(model.parameters()))


def test_the_towers_can_be_kept(model, recipe):
    choose_trained(model, recipe.with_settings({"training.freeze": "towers"}).training)
    assert {name.partition(".")[0] for name in _trained(model)} == {"temporal_head"}


@pytest.fixture
def adapted(model, recipe):
    settings = recipe.with_settings({"training.lora.rank": 2}).training
    return model, choose_trained(model, settings)


def test_adapters_are_trained_in_place_of_the_towers_that_the_method_trains(adapted):
    trained = _trained(adapted[0])
    inside = {name for name in trained if not name.startswith("temporal_head.")}
    assert inside
    assert all(".lora_" in name and name.startswith("vision_model.") for name in inside)
    assert any(name.startswith("temporal_head.") for name in trained)


def test_adapters_learn_as_fast_as_other_new_modules(adapted):
    assert [group["name"] for group in parameter_groups(adapted[0], 1e-3)] == ["head"]


def test_merging_adapters_keeps_the_answers_and_the_names(adapted, recipe):
    model, adapters = adapted
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    pixels = torch.randn(1, 2, 3, 48, 48)
    before = model.eval().encode_frames(pixels).embeds
    merge_adapters(adapters)
    torch.testing.assert_close(model.encode_frames(pixels).embeds, before, atol=1e-5, rtol=1e-4)
    assert model.state_dict().keys() == start_model(recipe, ["a"])[0].state_dict().keys()


def test_adapters_without_a_place_are_refused(model, recipe):
    settings = recipe.with_settings({"training.lora.rank": 2, "training.lora.targets": ["query"]}).training
    with pytest.raises(ValueError, match=r"no trained linear layer of CLIP ends so. Ends: fc1, fc2, k_proj"):
        choose_trained(model, settings)
