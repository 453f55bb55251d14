"""Every recipe builds its model at tiny size and takes a step, and continues what it starts from."""

import json
from math import isfinite

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from kinoclip.training.freezing import choose_trained
from kinoclip.training.objective import Objective
from kinoclip.training.recipe import Recipe
from kinoclip.training.schedule import build_scheduler
from kinoclip.training.setup import build_optimizer
from kinoclip.training.starting import label_texts, start_model
from kinoclip.training.step import UpdateStep
from kinoclip.video.sampling import split_kept_frames

from .rows import RECIPES, labels_of

# settings that decide on what is built and on the loss, beside the model's
DATA = ("mixup", "cutmix", "label_smoothing", "templates", "corpus", "descriptions", "chinese_clip", "attributes")
TRAINING = ("objective", "multi_label", "freeze")
# rows that start from the embedded CLIP are trained as they are elsewhere
ROWS = [name for name, recipe in RECIPES.items() if recipe.start != "mini"]
CONTINUED = [name for name in ROWS if RECIPES[name].start in RECIPES]


def _alike(recipe: Recipe) -> str:
    """What two recipes have in common that build the same model and the same loss."""
    data = {name: recipe.data[name] for name in DATA}
    training = {name: getattr(recipe.training, name) for name in TRAINING}
    return json.dumps([recipe.method, sorted(recipe.model.items()), data, training])


class Workshop:
    """Builds and trains recipes at tiny size, those that are alike once."""

    def __init__(self, clip, shrink, make_folder):
        self.clip, self.shrink, self.make_folder = clip, shrink, make_folder
        self.folders: dict[str, str] = {}
        self.steps: dict[str, tuple[dict[str, float], int]] = {}
        self.kept: dict[str, list[str]] = {}

    def source(self, name: str) -> str:
        """Give what a recipe starts from: a folder of another's model, the tiny CLIP, or nothing for a ResNet."""
        start = RECIPES[name].start
        return self.folder(start) if start in RECIPES else start and self.clip

    def folder(self, name: str) -> str:
        """Give the folder of a recipe's model before its first step."""
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
        recipe = self.shrink(name)
        return start_model(recipe, labels_of(recipe), self.source(name))

    def step(self, name: str) -> tuple[dict[str, float], int]:
        """Give the losses of a recipe's first step, and how many tensors it changed."""
        key = self.key(name)
        if key not in self.steps:
            self.steps[key] = _step(self.shrink(name), *self.build(name))
        return self.steps[key]

    def changed_at_start(self, name: str) -> list[str]:
        """Name the weights of what a recipe starts from that it has, but not with their values."""
        key = self.key(name)
        if key not in self.kept:
            saved, now = load_file(f"{self.source(name)}/model.safetensors"), self.build(name)[0].state_dict()
            # a corpus is chosen anew
            same = [weight for weight in saved if weight in now and "corpus" not in weight]
            assert same
            self.kept[key] = [weight for weight in same if not torch.equal(saved[weight], now[weight])]
        return self.kept[key]


def _batch(model, processor) -> dict[str, torch.Tensor]:
    """Three videos of random pixels, two of one class."""
    videos = getattr(processor, "video_processor", processor)
    kept, between, _ = split_kept_frames(videos.num_frames, videos.keep_every)
    draw = torch.Generator().manual_seed(0)
    batch = {"pixel_values_videos": torch.randn(3, len(kept), 3, 32, 32, generator=draw)}
    if "discarded_pixel_values" in model.loss_inputs and videos.keep_every > 1:
        batch["discarded_pixel_values"] = torch.randn(3, len(between), 3, 32, 32, generator=draw)
    return {**batch, "labels": torch.tensor([0, 1, 1]), "index": torch.arange(3), "draw": torch.arange(3)}


def _step(recipe, model, processor) -> tuple[dict[str, float], int]:
    choose_trained(model, recipe.training)
    attributes = processor.encode_attributes([["diving"]] * 3) if recipe.data["attributes"] else None
    objective = Objective(model, processor, recipe, label_texts(recipe, labels_of(recipe)), attributes)
    optimizer = build_optimizer(model, recipe.training)
    scheduler = build_scheduler(optimizer, 0, 1, 10, refresh_every=1)
    accelerator = Accelerator(cpu=True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step = UpdateStep(accelerator, *accelerator.prepare(model, optimizer), scheduler, objective, recipe.training)
    losses = step([_batch(model, processor)], 0)
    return losses, sum(not torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.fixture(scope="module")
def workshop(tiny_files, shrink, tmp_path_factory) -> Workshop:
    return Workshop(tiny_files["clip"], shrink, tmp_path_factory.mktemp)


@pytest.mark.parametrize("name", ROWS)
def test_a_step_of_a_row_has_a_finite_loss_and_changes_weights(name, workshop):
    losses, changed = workshop.step(name)
    assert all(isfinite(loss) for loss in losses.values())
    assert losses
    assert changed > 0


@pytest.mark.parametrize("name", CONTINUED)
def test_a_row_takes_over_the_weights_of_the_one_it_starts_from(name, workshop):
    assert workshop.changed_at_start(name) == []
