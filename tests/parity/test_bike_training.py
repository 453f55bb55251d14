"""BIKE's training against the official loop: losses, rates and weights of a run, and gradients on two processes."""

import pytest
import torch
from torch import Tensor

from kinoclip import BikeConfig, BikeModel
from kinoclip.conversion import clip_to_transformers, head_to_transformers
from kinoclip.methods.bike import convert_bike
from kinoclip.training.optimizer import parameter_groups
from kinoclip.training.schedule import build_scheduler

from .data_parallel import train_step, train_steps_in_parallel

EXACT = {"atol": 1e-5, "rtol": 1e-5}
FROZEN = ("text_model.", "text_projection.")


def _rename(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Give recorded tensors, named `model.*` and `head.*` after `prefix`, under the names that they have here."""
    recorded = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    clip = {name.removeprefix("model."): t for name, t in recorded.items() if name.startswith("model.")}
    head = {name.removeprefix("head."): t for name, t in recorded.items() if name.startswith("head.")}
    return clip_to_transformers(clip) | head_to_transformers(head)


@pytest.fixture(scope="module")
def run(load_golden, tmp_path_factory):
    """The official loop, replayed: two epochs of 13 iterations over the same batches."""
    golden = load_golden("bike_train_steps")
    model = convert_bike(golden.write(tmp_path_factory.mktemp("run")), freeze_text=golden.config["fix_text"]).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.freeze()
    solver = golden.meta["solver"]
    groups = parameter_groups(model, solver["lr"], solver["clip_ratio"], solver["weight_decay"])
    optimizer = torch.optim.AdamW(groups, betas=tuple(solver["betas"]), eps=solver["eps"])
    steps = solver["iterations_per_epoch"]
    scheduler = build_scheduler(optimizer, solver["warmup_epochs"], solver["epochs"], steps)
    images, labels = golden.inputs["images"].unflatten(2, (-1, 3)), golden.inputs["labels"]
    losses, rates = [], []
    for step in range(solver["epochs"] * steps):
        batch = labels[step % steps]
        captions = golden.inputs["class_token_ids"][batch][None]
        loss = model(images[step % steps], captions, labels=batch, candidate_labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.detach())
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return golden, before, model.state_dict(), torch.stack(losses), torch.tensor(rates, dtype=torch.float64)


def test_every_learning_rate_of_a_run_is_the_official_one(run):
    golden, _, _, _, rates = run
    torch.testing.assert_close(rates, golden.outputs["lr_per_iteration"], atol=1e-12, rtol=1e-9)


def test_every_loss_of_a_run_is_the_official_one(run):
    golden, _, _, losses, _ = run
    # the loss is of logits scaled by 100, so a rounding of 1e-7 in a cosine is 1e-5 here
    torch.testing.assert_close(losses, golden.outputs["loss"], atol=1e-5, rtol=1e-5)


def test_the_weights_after_a_run_are_the_official_ones(run):
    golden, _, after, _, _ = run
    expected = _rename(golden.outputs, "final.")
    # A key's bias moves all scores of a query alike, so its true gradient is zero, and what AdamW scales to full steps
    # is rounding; the attention does not depend on it.
    del expected["temporal_head.encoder.layers.0.self_attn.k_proj.bias"]
    torch.testing.assert_close({name: after[name] for name in expected}, expected, **EXACT)


def test_a_run_leaves_the_text_tower_as_it_was(run):
    _, before, after, _, _ = run
    frozen = [name for name in before if name.startswith(FROZEN)]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)


@pytest.fixture(scope="module", params=[1, 2])
def official_step(request, load_golden, tmp_path_factory):
    """The recorded step on one or two processes, and what each of ours computed."""
    world = request.param
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
    prefix = f"world{world}."
    official = {name.removeprefix(prefix): t for name, t in golden.outputs.items() if name.startswith(prefix)}
    if world == 1:
        model.freeze()
        return official, [train_step(model, model, inputs)]
    return official, train_steps_in_parallel({"step": (model, inputs)}, world, folder)["step"]


def test_loss_and_logits_of_every_process_are_those_of_the_global_batch(official_step):
    official, results = official_step
    expected = {"loss": official["loss"], "logits": official["logits"]}
    found = [{name: result[name] for name in expected} for result in results]
    torch.testing.assert_close(found, [expected] * len(found), **EXACT)


def test_gradients_on_every_process_are_the_official_ones(official_step):
    official, results = official_step
    expected = _rename(official, "grad.")
    found = [{name: result["gradients"][name] for name in expected} for result in results]
    torch.testing.assert_close(found, [expected] * len(found), **EXACT)


STEPS = {
    "frozen text": {},
    "trained text": {"freeze_text": False},
    "words of the label, two templates": {"freeze_text": False, "saliency_words": "label"},
}


@pytest.fixture(scope="module")
def steps_on_two_processes(tiny_fields, tmp_path_factory):
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
    return steps, train_steps_in_parallel(steps, 2, tmp_path_factory.mktemp("steps"))


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
