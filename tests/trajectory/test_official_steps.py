"""The loop's own step against the official loops: every loss, rate and weight of a recorded run."""

import pytest
import torch
from accelerate import Accelerator
from parity.test_bike_training import _rename

from kinoclip.methods.bike import convert_bike
from kinoclip.training.objective import Objective
from kinoclip.training.recipe import Recipe, load_recipe
from kinoclip.training.schedule import build_scheduler
from kinoclip.training.setup import build_optimizer
from kinoclip.training.step import UpdateStep


class _Tokens:
    """A processor that knows the recorded captions."""

    def __init__(self, ids):
        self.ids = ids

    def encode_labels(self, texts):
        return {"input_ids": self.ids[None]}


@pytest.fixture(scope="module", params=[1, 2], ids=["at once", "in two micro-batches"])
def run(request, load_golden, tmp_path_factory):
    """BIKE's official run of two epochs with 13 updates each, through `UpdateStep`."""
    golden = load_golden("bike_train_steps")
    solver = golden.meta["solver"]
    settings = {"batch_size": 256, "accumulation": request.param, "epochs": solver["epochs"], "lr": solver["lr"]}
    settings |= {"backbone_scale": solver["clip_ratio"], "weight_decay": solver["weight_decay"], "eps": solver["eps"]}
    settings |= {"betas": list(solver["betas"]), "warmup_epochs": solver["warmup_epochs"]}
    recipe = load_recipe("bike/t6a-vcs").with_settings({f"training.{name}": value for name, value in settings.items()})
    model = convert_bike(golden.write(tmp_path_factory.mktemp("run")), freeze_text=golden.config["fix_text"]).train()
    model.freeze()
    ids = golden.inputs["class_token_ids"]
    objective = Objective(model, _Tokens(ids), recipe, [str(number) for number in range(len(ids))])
    accelerator = Accelerator(cpu=True)
    optimizer = build_optimizer(model, recipe.training)
    steps = solver["iterations_per_epoch"]
    scheduler = build_scheduler(
        optimizer, solver["warmup_epochs"], solver["epochs"], steps, refresh_every=recipe.training.refresh_every
    )
    step = UpdateStep(accelerator, *accelerator.prepare(model, optimizer), scheduler, objective, recipe.training)
    images, labels = golden.inputs["images"].unflatten(2, (-1, 3)), golden.inputs["labels"]
    losses, rates = [], []
    for update in range(solver["epochs"] * steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        parts = zip(
            images[update % steps].chunk(request.param), labels[update % steps].chunk(request.param), strict=True
        )
        batches = [{"pixel_values_videos": pixels, "labels": ids} for pixels, ids in parts]
        losses.append(sum(step(batches, update).values()))
    return golden, model.state_dict(), torch.tensor(losses), torch.tensor(rates, dtype=torch.float64)


def test_every_loss_is_the_official_one(run):
    golden, _, losses, _ = run
    # of logits scaled by 100, so a rounding of 1e-7 in a cosine is 1e-5 here
    torch.testing.assert_close(losses, golden.outputs["loss"], atol=1e-5, rtol=1e-5)


def test_every_rate_is_the_official_one(run):
    golden, _, _, rates = run
    torch.testing.assert_close(rates, golden.outputs["lr_per_iteration"], atol=1e-12, rtol=1e-9)


def test_the_weights_after_the_run_are_the_official_ones(run):
    golden, after, _, _ = run
    expected = _rename(golden.outputs, "final.")
    # its true gradient is zero, and what AdamW scales to full steps is rounding; see the parity test
    del expected["temporal_head.encoder.layers.0.self_attn.k_proj.bias"]
    torch.testing.assert_close({name: after[name] for name in expected}, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module", params=[1, 2, 4], ids=["at once", "in two micro-batches", "in four"])
def gathered_step(request, load_golden, tmp_path_factory):
    """The recorded step of one process on the global batch, and what `UpdateStep` makes of the same batch."""
    golden = load_golden("bike_ddp_loss")
    model = convert_bike(golden.write(tmp_path_factory.mktemp("step"))).train()
    model.freeze()
    settings = {"training.accumulation": request.param, "training.lr": 0.0}
    recipe = load_recipe("bike/t6a-vcs").with_settings(settings)
    ids = golden.inputs["class_token_ids"]
    objective = Objective(model, _Tokens(ids), recipe, [str(number) for number in range(len(ids))])
    optimizer = build_optimizer(model, recipe.training)
    gradients = {}
    optimizer.register_step_pre_hook(
        lambda *_: gradients.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    )
    accelerator = Accelerator(cpu=True)
    prepared = accelerator.prepare(model, optimizer)
    step = UpdateStep(accelerator, *prepared, build_scheduler(optimizer, 0, 1, 1), objective, recipe.training)
    parts = zip(*(t.chunk(request.param) for t in (golden.pixels(), golden.inputs["labels"])), strict=True)
    losses = step([{"pixel_values_videos": pixels, "labels": labels} for pixels, labels in parts], 0)
    return golden, losses, gradients


def test_the_loss_of_the_global_batch_is_the_official_one(gathered_step):
    golden, losses, _ = gathered_step
    assert losses["video"] == pytest.approx(golden.outputs["world1.loss"].item(), abs=1e-5)


def test_the_gradients_of_the_global_batch_are_the_official_ones(gathered_step):
    golden, _, gradients = gathered_step
    expected = _rename(golden.outputs, "world1.grad.")
    torch.testing.assert_close({n: gradients[n] for n in expected}, expected, atol=1e-5, rtol=1e-5)


# ActionCLIP's `train.py`: 8 epochs of 25 updates, 2 of them warm-up, head at 5e-5; from this update on, this rate
ACTIONCLIP_RATES = {
    0: 0.0,
    9: 9e-06,
    19: 1.9e-05,
    25: 2.5e-05,
    50: 5e-05,
    59: 4.9557181268217227e-05,
    69: 4.8046578789712515e-05,
    75: 4.665063509461097e-05,
    125: 2.5e-05,
    150: 1.2500000000000006e-05,
    184: 1.3905907440629722e-06,
    194: 1.9713246713805588e-07,
}


def test_the_rates_of_actionclips_recipe_are_those_of_its_loop():
    content = {"method": "actionclip", "training": {"objective": "captions", "refresh_every": 10, "lr": 5e-5}}
    settings = Recipe.from_dict("actionclip", content).training
    model = torch.nn.ModuleDict({"visual_projection": torch.nn.Linear(1, 1), "temporal_head": torch.nn.Linear(1, 1)})
    optimizer = build_optimizer(model, settings)
    scheduler = build_scheduler(optimizer, 2, 8, 25, refresh_every=settings.refresh_every)
    rates = []
    for _ in range(200):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    found = {update: rates[update] for update in ACTIONCLIP_RATES}
    assert found == {update: pytest.approx([rate / 10, rate]) for update, rate in ACTIONCLIP_RATES.items()}
