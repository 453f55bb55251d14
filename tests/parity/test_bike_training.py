"""BIKE's step on two processes against the official one; `trajectory/test_official_steps.py` compares a whole run."""

import pytest
import torch

from kinoclip import BikeConfig, BikeModel
from kinoclip.methods.bike import convert_bike

from .conftest import rename_bike
from .data_parallel import train_step, train_steps_in_parallel

EXACT = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def official_step(load_golden, programs, tmp_path_factory):
    """The recorded step on two processes, and what each of ours computed."""
    golden = load_golden("bike_ddp_loss")
    folder = tmp_path_factory.mktemp("step")
    labels = golden.inputs["labels"]
    inputs = {
        "pixel_values_videos": golden.pixels(),
        "input_ids": golden.inputs["class_token_ids"][labels][None],
        "labels": labels,
        "candidate_labels": labels,
    }
    model = convert_bike(golden.write(folder)).train()
    return golden.outputs, train_steps_in_parallel({"step": (model, inputs)}, 2, folder, programs)["step"]


def test_loss_and_logits_of_every_process_are_those_of_the_global_batch(official_step):
    official, results = official_step
    expected = {name: official[f"world2.{name}"] for name in ("loss", "logits")}
    found = [{name: result[name] for name in expected} for result in results]
    torch.testing.assert_close(found, [expected] * len(found), **EXACT)


def test_gradients_on_every_process_are_the_official_ones(official_step):
    official, results = official_step
    expected = rename_bike(official, "world2.grad.")
    found = [{name: result["gradients"][name] for name in expected} for result in results]
    torch.testing.assert_close(found, [expected] * len(found), **EXACT)


STEPS = {
    "frozen text": {},
    "trained text": {"freeze_text": False},
    "words of the label, two templates": {"freeze_text": False, "saliency_words": "label"},
}


@pytest.fixture(scope="module")
def steps_on_two_processes(tiny_fields, programs, tmp_path_factory):
    """A training step of each configuration, with its results on two processes."""
    torch.manual_seed(0)
    steps = {}
    for name, fields in STEPS.items():
        model = BikeModel(BikeConfig(**tiny_fields, **fields)).train()
        model.freeze()
        ids = torch.randint(1, 100, (2 if "two" in name else 1, 4, 77))
        ids[..., 9] = model.config.text_config.eos_token_id
        inputs = {
            "pixel_values_videos": torch.randn(4, 3, 3, 32, 32),
            "input_ids": ids,
            "word_mask": torch.rand(ids.shape) < 0.1,
            "labels": torch.tensor([0, 1, 1, 3]),
            "candidate_labels": torch.tensor([0, 1, 1, 3]),
        }
        steps[name] = (model, inputs)
    return steps, train_steps_in_parallel(steps, 2, tmp_path_factory.mktemp("steps"), programs)


@pytest.fixture(scope="module", params=STEPS)
def two_and_one(request, steps_on_two_processes):
    """A training step on two processes, and on one with the same batch."""
    steps, results = steps_on_two_processes
    model, inputs = steps[request.param]
    two, one = results[request.param][0], train_step(model, model, inputs)
    assert ("text_projection.weight" in one["gradients"]) == (request.param != "frozen text")
    assert two["gradients"].keys() == one["gradients"].keys()
    return two, one


def test_two_processes_have_the_loss_and_logits_of_one(two_and_one):
    two, one = two_and_one
    torch.testing.assert_close([two["loss"], two["logits"]], [one["loss"], one["logits"]], **EXACT)


def test_what_lies_after_the_gather_gets_its_full_gradient_on_two_processes(two_and_one):
    two, one = ({n: g for n, g in result["gradients"].items() if _after_gather(n)} for result in two_and_one)
    assert {"logit_scale", "temporal_head.encoder.layers.0.layer_norm1.weight"} <= one.keys()
    torch.testing.assert_close(two, one, **EXACT)


def test_what_lies_before_the_gather_gets_half_its_gradient_on_two_processes(two_and_one):
    two, one = ({n: g for n, g in result["gradients"].items() if not _after_gather(n)} for result in two_and_one)
    assert "visual_projection.weight" in one
    torch.testing.assert_close(two, {name: gradient / 2 for name, gradient in one.items()}, **EXACT)


def _after_gather(name: str) -> bool:
    return name == "logit_scale" or name.startswith("temporal_head.")
