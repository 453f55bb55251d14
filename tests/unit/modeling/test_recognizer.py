"""Configs, the fusion of branches, and what a method need not write itself."""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError

from kinoclip import BikeConfig
from kinoclip.modeling.recognizer import fuse_logits


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interaction", "max"),
        ("temporal_layers", "six"),
        ("temporal_layers", 1.5),
        ("saliency_temperature", "hot"),
        ("normalize_video", "yes"),
        ("fusion", {"video": "most"}),
        ("loss", "mse"),
        ("num_frames", None),
        ("text_config", 3),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_name(field, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=field):
        BikeConfig(**{field: value})
    config = BikeConfig()
    with pytest.raises(StrictDataclassFieldValidationError, match=field):
        setattr(config, field, value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train_branch": "attributes"}, "needs an attributes branch"),
        ({"attributes": "shared", "fusion": {"video": 1}}, "fusion.*attributes"),
        ({"fusion": {"video": 0.5, "audio": 0.5}}, "fusion.*audio"),
        ({"fusion": {"video": -1, "attributes": 2}}, "fusion.*-1"),
        ({"fusion": {"video": 0, "attributes": 0}}, "fusion.*0"),
        ({"saliency_temperature": 0}, "saliency_temperature must be above 0, got 0"),
        ({"temporal_layers": 0}, "temporal_layers must be at least 1, got 0"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(tiny_fields, fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        BikeConfig(**tiny_fields | fields)


def test_a_field_that_a_later_version_may_add_is_kept(tiny_fields, tmp_path):
    BikeConfig(**tiny_fields).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(saved | {"invented_later": 1}))
    assert BikeConfig.from_pretrained(tmp_path).invented_later == 1


def test_a_saved_config_comes_back_equal(tiny_fields, tmp_path):
    config = BikeConfig(**tiny_fields, attributes="own", fusion={"video": 1, "attributes": 0.5})
    config.save_pretrained(tmp_path)
    assert BikeConfig.from_pretrained(tmp_path).to_diff_dict() == config.to_diff_dict()


def test_one_branch_is_its_own_answer():
    logits = torch.tensor([[3.0, 1.0]])
    assert fuse_logits({"video": logits}, {"video": 0.7, "attributes": 0.3}) is logits


@pytest.mark.parametrize(
    ("weights", "expected"),
    # probabilities (3/4, 1/4) and (1/5, 4/5), averaged: by halves (0.475, 0.525); by 3 to 1 (0.6125, 0.3875)
    [
        (None, [0.475, 0.525]),
        ({"video": 3, "attributes": 1}, [0.6125, 0.3875]),
        ({"video": 1, "attributes": 0}, [0.75, 0.25]),
    ],
)
def test_several_branches_are_averaged_as_probabilities(weights, expected):
    scaled = {"video": torch.tensor([[3.0, 1.0]]).log(), "attributes": torch.tensor([[1.0, 4.0]]).log()}
    torch.testing.assert_close(fuse_logits(scaled, weights).exp(), torch.tensor([expected]))


def test_a_branch_of_no_weight_leaves_finite_gradients():
    video, attributes = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    fuse_logits({"video": video, "attributes": attributes}, {"video": 1, "attributes": 0})[0, 0].backward()
    assert video.grad.tolist() == [[0.5, -0.5]]
    assert attributes.grad.tolist() == [[0, 0]]


def test_registering_for_an_auto_class_copies_no_code(tiny_bike, tmp_path):
    type(tiny_bike).register_for_auto_class()
    type(tiny_bike.config).register_for_auto_class()
    tiny_bike.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.py")] == ["kinoclip_shim.py"]
