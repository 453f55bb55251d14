"""Every recipe builds its model at tiny size and takes a step, and continues what it starts from."""

import json
from functools import cache
from math import isfinite

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from kinoclip.training.build_model import build_model, freeze_parameters, label_texts
from kinoclip.training.objective import Objective
from kinoclip.training.optimization import build_optimizer, build_scheduler
from kinoclip.training.recipe import Recipe
from kinoclip.training.smoke import Smoke
from kinoclip.training.update_step import UpdateStep
from kinoclip.video.sampling import split_kept_frames

from .rows import RECIPES

# settings that decide on what is built and on the loss, beside the model's
DATA = ("mixup", "cutmix", "label_smoothing", "templates", "corpus", "descriptions", "chinese_clip", "attributes")
TRAINING = ("objective", "multi_label", "freeze")
# rows that start from the embedded CLIP are trained as they are elsewhere
ROWS = [name for name, recipe in RECIPES.items() if recipe.start != "mini"]
CONTINUED = [name for name in ROWS if RECIPES[name].start in RECIPES]


def _alike(recipe: Recipe) -> str:
    """Return what recipes have in common that build the same model and the same loss."""
    data = {name: recipe.data[name] for name in DATA}
    training = {name: getattr(recipe.training, name) for name in TRAINING}
    return json.dumps([recipe.method, sorted(recipe.model.items()), data, training])


class Workshop:
    """Builds and trains recipes at the size of a smoke test, equal ones once."""

    def __init__(self, make_folder):
        self.make_folder, self.smoke = make_folder, Smoke(make_folder("smoke"))
        self.folders: dict[str, str] = {}
        self.steps: dict[str, tuple[dict[str, float], int]] = {}
        self.changed: dict[str, list[str]] = {}
        self.shrink = cache(lambda name: self.smoke.shrink(RECIPES[name]))

    def source(self, name: str) -> str:
        """Return what a recipe starts from: a folder of another's model, the tiny CLIP, or nothing for a ResNet."""
        start = RECIPES[name].start
        return self.folder(start) if start in RECIPES else self.smoke.start(start)

    def folder(self, name: str) -> str:
        """Return the folder of a recipe's model before its first step."""
        key = self.key(name)
        if key not in self.folders:
            path = self.make_folder("start")
            for part in self.build(name):
                part.save_pretrained(path)
            self.folders[key] = str(path)
        return self.folders[key]

    def key(self, name: str) -> str:
        return _alike(self.shrink(name)) + self.source(name)

    def build(self, name: str):
        return build_model(self.shrink(name), self.smoke.labels(RECIPES[name]), self.source(name))

    def step(self, name: str) -> tuple[dict[str, float], int]:
        """Return the losses of a recipe's first step, and the number of tensors that it changes."""
        key = self.key(name)
        if key not in self.steps:
            model, processor = self.build(name)
            if name in CONTINUED:
                self.changed[key] = _find_changes(self.source(name), model)
            self.steps[key] = _step(self.shrink(name), self.smoke.labels(RECIPES[name]), model, processor)
        return self.steps[key]

    def changed_at_start(self, name: str) -> list[str]:
        """Return the names of the weights of the start that the recipe's model has with other values."""
        self.step(name)
        return self.changed[self.key(name)]


def _find_changes(source: str, model) -> list[str]:
    saved, now = load_file(f"{source}/model.safetensors"), model.state_dict()
    # a corpus is chosen again
    same = [weight for weight in saved if weight in now and "corpus" not in weight]
    assert same
    return [weight for weight in same if not torch.equal(saved[weight], now[weight])]


def _batch(model, processor) -> dict[str, torch.Tensor]:
    """Three videos of random pixels, two of one class."""
    videos = processor.video_processor
    kept, between, _ = split_kept_frames(videos.num_frames, videos.keep_every)
    draw, size = torch.Generator().manual_seed(0), videos.crop_size["height"]
    batch = {"pixel_values_videos": torch.randn(3, len(kept), 3, size, size, generator=draw)}
    if "discarded_pixel_values" in model.further_inputs and videos.keep_every > 1:
        batch["discarded_pixel_values"] = torch.randn(3, len(between), 3, size, size, generator=draw)
    return {**batch, "labels": torch.tensor([0, 1, 1]), "index": torch.arange(3), "draw": torch.arange(3)}


def _step(recipe, labels, model, processor) -> tuple[dict[str, float], int]:
    freeze_parameters(model, recipe.training)
    attributes = processor.encode_attributes([["diving"]] * 3) if recipe.data["attributes"] else None
    objective = Objective(model, processor, recipe, label_texts(recipe, labels), attributes)
    optimizer = build_optimizer(model, recipe.training)
    scheduler = build_scheduler(optimizer, 0, 1, 10, refresh_every=1)
    accelerator = Accelerator(cpu=True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step = UpdateStep(accelerator, *accelerator.prepare(model, optimizer), scheduler, objective, recipe.training)
    losses = step([_batch(model, processor)], 0)
    return losses, sum(not torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp)


@pytest.mark.parametrize("name", ROWS)
def test_a_step_of_a_row_has_a_finite_loss_and_changes_weights(name, workshop):
    losses, changed = workshop.step(name)
    assert all(isfinite(loss) for loss in losses.values())
    assert losses
    assert changed > 0


@pytest.mark.parametrize("name", CONTINUED)
def test_a_row_takes_over_the_weights_of_the_one_it_starts_from(name, workshop):
    assert workshop.changed_at_start(name) == []
