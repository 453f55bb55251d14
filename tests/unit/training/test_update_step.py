import pytest
import torch
from accelerate import Accelerator

from kinoclip.training.build_model import build_model, freeze_parameters
from kinoclip.training.objective import Objective
from kinoclip.training.optimization import build_optimizer, build_scheduler
from kinoclip.training.recipe import Recipe, load_recipe
from kinoclip.training.update_step import UpdateStep

LABELS = ["red circle", "blue square", "green star"]
ACTIONCLIP = {
    "method": "actionclip",
    "start": "mini",
    "model": {"num_frames": 4, "temporal_layers": 1},
    "training": {"objective": "captions", "warmup_epochs": 0, "batch_size": 8, "lr": 1e-3},
}
RECIPES = {
    "frozen captions": load_recipe("kinoshapes/bike"),
    "trained captions": Recipe.from_dict("actionclip", ACTIONCLIP),
    "all classes": load_recipe("kinoshapes/text4vis"),
    "restored frames": load_recipe("kinoshapes/sllm"),
    "captions and restored frames": load_recipe("kinoshapes/sllm").with_settings(
        {"model.recognizer": "bike", "training.objective": "captions"}
    ),
}


def _gradients(recipe, accumulation, **settings):
    """Return the losses and gradients of one step over 8 videos in micro-batches."""
    settings = {"training.accumulation": accumulation, **{f"training.{name}": v for name, v in settings.items()}}
    recipe = recipe.with_settings(settings)
    model, processor = build_model(recipe, LABELS)
    freeze_parameters(model, recipe.training)
    if recipe.training.activation_checkpointing:
        model.activation_checkpointing_enable()
    objective = Objective(model, processor, recipe, LABELS)
    accelerator = Accelerator(cpu=True)
    optimizer = build_optimizer(model, recipe.training)
    scheduler = build_scheduler(optimizer, 0, 1, 10, refresh_every=1)
    step = UpdateStep(accelerator, *accelerator.prepare(model, optimizer), scheduler, objective, recipe.training)
    found = {}
    optimizer.register_step_pre_hook(
        lambda *_: found.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    )
    generator = torch.Generator().manual_seed(0)
    kept = 2 if "discarded_pixel_values" in model.further_inputs else 4
    batch = {"pixel_values_videos": torch.randn(8, kept, 3, 48, 48, generator=generator)}
    if kept == 2:
        batch["discarded_pixel_values"] = torch.randn(8, 1, 3, 48, 48, generator=generator)
    batch["labels"] = torch.tensor([0, 1, 2, 0, 1, 1, 2, 0])
    batch["draw"] = torch.arange(8) * 5
    parts = [
        dict(zip(batch, rows, strict=True))
        for rows in zip(*(t.chunk(accumulation) for t in batch.values()), strict=True)
    ]
    return step(parts, 0), found


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_eight_micro_batches_of_one_video_give_the_loss_and_gradient_of_one_of_eight(recipe):
    losses, gradients = _gradients(recipe, 1)
    split_losses, split_gradients = _gradients(recipe, 8)
    assert split_losses == pytest.approx(losses, abs=1e-5)
    assert split_gradients.keys() == gradients.keys()
    # logits are scaled by 100, so float32 rounds gradients to about 1e-6 of the largest
    torch.testing.assert_close(split_gradients, gradients, atol=1e-5, rtol=1e-3)


def test_the_official_loss_of_micro_batches_compares_each_with_itself_only():
    losses, _ = _gradients(RECIPES["frozen captions"], 8, accumulated_loss="micro_batches")
    # one video with its one caption has nothing to be compared with
    assert losses["video"] == pytest.approx(0.0, abs=1e-6)


def test_the_norm_of_the_gradient_is_limited():
    _, gradients = _gradients(RECIPES["all classes"], 1, clip_norm=1e-3)
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_a_loss_of_nan_stops_training(monkeypatch):
    monkeypatch.setattr(Objective, "losses", lambda self, output, labels: {"video": output.loss * float("nan")})
    with pytest.raises(FloatingPointError, match=r"Lower training.lr"):
        _gradients(RECIPES["all classes"], 1)
