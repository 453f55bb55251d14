"""The loop's own step against the official loops: every loss, rate and weight of a recorded run."""

import json

import pytest
import torch
from accelerate import Accelerator
from parity.conftest import rename_bike
from parity.pack import RECORDINGS
from parity.test_sllm import recorded_gradients

from kinoclip import ActionClipConfig, ActionClipModel
from kinoclip.methods import METHODS
from kinoclip.methods.bike import convert_bike
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures
from kinoclip.training.objective import Objective
from kinoclip.training.optimization import build_optimizer, build_scheduler
from kinoclip.training.recipe import load_recipe
from kinoclip.training.update_step import UpdateStep
from kinoclip.video.sampling import split_kept_frames


class _Tokens:
    """A processor that knows the recorded texts (P, K, L)."""

    def __init__(self, ids):
        self.ids = ids

    def encode_labels(self, texts):
        return {"input_ids": self.ids}


def _objective(model, recipe, ids):
    """Build the objective of a recipe for recorded texts (P, K, L)."""
    return Objective(model, _Tokens(ids), recipe, [str(number) for number in range(ids.shape[1])])


def _build_step(model, recipe, ids, *length):
    """Build a step, whose schedule has this length, and its optimizer."""
    optimizer, accelerator = build_optimizer(model, recipe.training), Accelerator(cpu=True)
    prepared = accelerator.prepare(model, optimizer)
    scheduler = build_scheduler(optimizer, *length, refresh_every=recipe.training.refresh_every)
    return UpdateStep(accelerator, *prepared, scheduler, _objective(model, recipe, ids), recipe.training), optimizer


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
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("text_")}
    ids, steps = golden.inputs["class_token_ids"][None], solver["iterations_per_epoch"]
    step, optimizer = _build_step(model, recipe, ids, solver["warmup_epochs"], solver["epochs"], steps)
    images, labels = golden.inputs["images"].unflatten(2, (-1, 3)), golden.inputs["labels"]
    losses, rates = [], []
    for update in range(solver["epochs"] * steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        parts = zip(
            images[update % steps].chunk(request.param), labels[update % steps].chunk(request.param), strict=True
        )
        batches = [{"pixel_values_videos": pixels, "labels": ids} for pixels, ids in parts]
        losses.append(sum(step(batches, update).values()))
    return golden, before, model.state_dict(), torch.tensor(losses), torch.tensor(rates, dtype=torch.float64)


def test_every_loss_is_the_official_one(run):
    golden, _, _, losses, _ = run
    # of logits scaled by 100, so a rounding of 1e-7 in a cosine is 1e-5 here
    torch.testing.assert_close(losses, golden.outputs["loss"], atol=1e-5, rtol=1e-5)


def test_every_rate_is_the_official_one(run):
    golden, _, _, _, rates = run
    torch.testing.assert_close(rates, golden.outputs["lr_per_iteration"], atol=1e-12, rtol=1e-9)


def test_the_weights_after_the_run_are_the_official_ones_and_the_text_tower_is_as_it_was(run):
    golden, before, after, _, _ = run
    expected = rename_bike(golden.outputs, "final.")
    # A key's bias moves all scores of a query alike, so its true gradient is zero, and what AdamW scales to full steps
    # is rounding; the attention does not depend on it.
    del expected["temporal_head.encoder.layers.0.self_attn.k_proj.bias"]
    torch.testing.assert_close({name: after[name] for name in expected}, expected, atol=1e-5, rtol=1e-5)
    assert before
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.fixture(scope="module", params=[1, 2, 4], ids=["at once", "in two micro-batches", "in four"])
def gathered_step(request, load_golden, tmp_path_factory):
    """The recorded step of one process on the global batch, and what `UpdateStep` makes of the same batch."""
    golden = load_golden("bike_ddp_loss")
    model = convert_bike(golden.write(tmp_path_factory.mktemp("step"))).train()
    model.freeze()
    settings = {"training.accumulation": request.param, "training.lr": 0.0}
    recipe = load_recipe("bike/t6a-vcs").with_settings(settings)
    step, optimizer = _build_step(model, recipe, golden.inputs["class_token_ids"][None], 0, 1, 1)
    gradients = {}
    optimizer.register_step_pre_hook(
        lambda *_: gradients.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    )
    parts = zip(*(t.chunk(request.param) for t in (golden.pixels(), golden.inputs["labels"])), strict=True)
    losses = step([{"pixel_values_videos": pixels, "labels": labels} for pixels, labels in parts], 0)
    return golden, losses, gradients


def test_the_loss_of_the_global_batch_is_the_official_one(gathered_step):
    golden, losses, _ = gathered_step
    assert losses["video"] == pytest.approx(golden.outputs["world1.loss"].item(), abs=1e-5)


def test_the_gradients_of_the_global_batch_are_the_official_ones(gathered_step):
    golden, _, gradients = gathered_step
    expected = rename_bike(golden.outputs, "world1.grad.")
    torch.testing.assert_close({n: gradients[n] for n in expected}, expected, atol=1e-5, rtol=1e-5)


def test_the_rates_of_actionclips_row_are_those_of_its_loop():
    recorded = json.loads((RECORDINGS / "actionclip_learning_rates.json").read_text())
    settings = load_recipe("actionclip/k400-b16-8f").training
    model = torch.nn.ModuleDict({"visual_projection": torch.nn.Linear(1, 1), "temporal_head": torch.nn.Linear(1, 1)})
    optimizer = build_optimizer(model, settings)
    length = (recorded["warmup_epochs"], recorded["epochs"], recorded["iters_per_epoch"])
    scheduler = build_scheduler(optimizer, *length, refresh_every=settings.refresh_every)
    rates = []
    for _ in recorded["rates"]:
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    # the text tower, the vision tower and the head; the first two are one group here
    assert rates == [pytest.approx([vision, head]) for _, vision, head in recorded["rates"]]
    assert all(text == vision for text, vision, _ in recorded["rates"])


def test_the_captions_of_actionclips_row_give_the_official_loss_and_gradients(load_golden, tiny_fields):
    golden = load_golden("actionclip_loss")
    names = ("video_embedding", "text_embedding", "log_logit_scale")
    video, text, scale = (torch.nn.Parameter(golden.inputs[name].clone()) for name in names)
    labels, count = golden.inputs["labels"], int(golden.inputs["labels"].max()) + 1
    # each video draws a template of its own, under which the recorded text of its label stands; elsewhere are others
    draws = torch.arange(len(labels)) * 5 + 16
    others = torch.randn(16, count, text.shape[1], generator=torch.Generator().manual_seed(0))
    table = others.index_put((draws % 16, labels), text).flatten(0, 1)
    model = ActionClipModel(ActionClipConfig(**tiny_fields, temporal_head="mean")).train()
    model.logit_scale = scale
    model.encode_text = lambda input_ids, *_, **__: TextFeatures(embeds=table[input_ids[..., 0]])
    ids = torch.arange(len(table)).view(16, count, 1)
    recipe = load_recipe("actionclip/k400-b16-8f")
    objective = _objective(model, recipe, ids)
    frames = FrameFeatures(embeds=video[:, None])
    inputs = objective.inputs({"frames": frames, "labels": labels, "index": torch.arange(len(labels)), "draw": draws})
    losses = objective.losses(model(**inputs), inputs["labels"])
    losses["video"].backward()
    torch.testing.assert_close(losses, {"video": golden.outputs["total_loss"]}, atol=1e-5, rtol=1e-5)
    expected = [golden.outputs[f"grad.{name}"] for name in names]
    torch.testing.assert_close([video.grad, text.grad, scale.grad], expected, atol=1e-5, rtol=1e-5)


def test_sllms_row_gives_the_official_losses_and_gradients(load_golden, tmp_path):
    golden = load_golden("sllm_text4vis")
    clip, count = tmp_path / "clip.pt", golden.config["T"]
    torch.save(golden.checkpoints["clip_text"]["state_dict"], clip)
    model = METHODS["sllm"].convert(golden.write(tmp_path), clip, num_frames=count).train()
    model.freeze()
    recipe = load_recipe("sllm/t2-text4vis-b32-8f")
    ids, frames = golden.inputs["token_ids"][None], golden.inputs["frames"]
    objective = _objective(model, recipe, ids)
    kept, between, _ = split_kept_frames(count, model.config.rate)
    batch = {"pixel_values_videos": frames[:, kept], "discarded_pixel_values": frames[:, between]}
    inputs = objective.inputs({**batch, "labels": golden.inputs["labels"]})
    losses = objective.losses(model(**inputs), inputs["labels"])
    sum(losses.values()).backward()
    official = {"video": golden.outputs["train_loss_ce"], "restoration": golden.outputs["train_loss_kl"]}
    torch.testing.assert_close(losses, official, atol=1e-5, rtol=1e-5)
    expected = recorded_gradients(golden.outputs)
    gradients = {name: model.get_parameter(name).grad for name in expected}
    # the official tables have as many rows as there are positions in use
    found = {name: g[: len(expected[name])] if g.ndim else g for name, g in gradients.items()}
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
