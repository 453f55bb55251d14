"""Each method from its row of a paper to the number, against the authors' loops and test scripts in plain torch."""

import json
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertTokenizer

from kinoclip.data.samples import class_names
from kinoclip.text.attributes import read_attributes
from kinoclip.text.chinese import load_chinese_labels
from kinoclip.training import reproduce, trainer
from kinoclip.training.data import prepare_data
from kinoclip.training.recipe import load_recipe
from kinoclip.training.smoke import Smoke
from kinoclip.training.update_step import UpdateStep

from . import official_loops as authors
from .official_loops import ACTIONCLIP, tokenize

# method: its row, the authors' loop, the row that it starts from, and the method whose result here is that row's
ROWS = {
    "bike": ("bike/t1-b16-8f", authors.BikeVideo, "", ""),
    "bike attributes": ("bike/t6e-va", authors.BikeAttributes, "bike/t6a-frozen", "bike"),
    "text4vis": ("text4vis/k400-b16-8f", authors.Text4Vis, "", ""),
    "actionclip": ("actionclip/k400-b16-8f", authors.ActionClip, "", ""),
    "sllm": ("sllm/t2-text4vis-b32-8f", authors.Sllm, "", ""),
    "alt": ("alt/t1-b16-8f", authors.Alt, "", ""),
    "alt few-shot": ("alt/t2-hmdb51-b16-2", authors.AltFewShot, "alt/t1-b16-32f", "alt"),
    "dstpr": ("dstpr/t6-16f", authors.Dstpr, "", ""),
    "tam": ("tam/k400-r50-8f", authors.Tam, "", ""),
}
# AdamW makes full steps of the rounding where a gradient is zero; at ALT's rate of 8e-4 the fourth loss shows it
COMPARED = 3


class _TwoEpochs(Smoke):
    """Smoke with two epochs, so that the second has other random numbers and the first can be the best."""

    def shrink(self, recipe):
        recipe = super().shrink(recipe)
        return recipe.with_settings({"training.epochs": 2 * recipe.training.epochs})


@contextmanager
def recording():
    """Record the training run inside, whose first epoch is told to be the best.

    Recorded are the model at the `start`; for each update the `inputs` of the model with the state of torch's random numbers,
    the `batches` of the loader, the `losses`, the `gradients`, the `rules` (rate and decay) of parameters, and the `weights`
    after it; and for each epoch the names of the `validated` videos.
    """
    names = ("inputs", "batches", "losses", "gradients", "rules", "weights", "validated")
    seen = SimpleNamespace(start=None, **{name: [] for name in names})
    build, take, measure = trainer.build_optimizer, UpdateStep.__call__, trainer.evaluate

    def build_optimizer(model, settings):
        optimizer, known = build(model, settings), {parameter: name for name, parameter in model.named_parameters()}
        seen.start = deepcopy(model)

        def before(*_):
            groups = [(group["params"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
            seen.rules.append({known[p]: values for parameters, *values in groups for p in parameters})
            seen.gradients.append({name: p.grad.clone() for p, name in known.items() if p.grad is not None})

        def forward(module, _, inputs):
            if module.training:
                seen.inputs.append({**inputs, "random_state": torch.get_rng_state()})

        model.register_forward_pre_hook(forward, with_kwargs=True)
        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(lambda *_: seen.weights.append(deepcopy(model.state_dict())))
        return optimizer

    def step(self, micro_batches, update):
        seen.batches += micro_batches
        seen.losses.append(take(self, micro_batches, update))
        return seen.losses[-1]

    def evaluate(*arguments, **options):
        report = measure(*arguments, **options)
        seen.validated.append(report.names)
        return replace(report, metrics=dict.fromkeys(report.metrics, 1 / len(seen.validated)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "build_optimizer", build_optimizer)
        patch.setattr(UpdateStep, "__call__", step)
        patch.setattr(trainer, "evaluate", evaluate)
        yield seen


def _reproduce(name: str, folder: Path, starts: dict[str, str]) -> SimpleNamespace:
    """Train and measure a row at tiny size; return what is recorded of it, and the function that builds the authors' loop."""
    row, kind, _, _ = ROWS[name]
    seen, views = SimpleNamespace(), []
    prepare, measure = reproduce.prepare_data, reproduce.evaluate

    def prepare_data(recipe, *arguments, **options):
        seen.recipe, seen.parts = recipe, prepare(recipe, *arguments, **options)
        return seen.parts

    def evaluate(model, *arguments, **options):
        see = lambda _, __, inputs: views.append(inputs["pixel_values_videos"])  # noqa: E731
        hook = model.register_forward_pre_hook(see, with_kwargs=True)
        seen.measured, seen.report = model, measure(model, *arguments, **options)
        hook.remove()
        return seen.report

    with recording() as seen.run, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce, "prepare_data", prepare_data)
        patch.setattr(reproduce, "evaluate", evaluate)
        patch.setattr(reproduce, "Smoke", _TwoEpochs)
        patch.setattr(reproduce, "_measure_costs", lambda *_, **__: {})
        options = reproduce.Options(smoke=True, starts=starts)
        reproduce.reproduce([row], [], folder, options, report=lambda _: None)
    (seen.folder,) = (folder / "runs").iterdir()
    (seen.result,) = json.loads((folder / "results.json").read_text())
    seen.views = torch.cat(views).unflatten(0, (len(seen.parts.test), -1))
    names, texts = class_names(seen.parts.train), _texts(seen.recipe, class_names(seen.parts.train))
    tokenizer = AutoTokenizer.from_pretrained(seen.folder) if seen.recipe.start else None
    seen.drawn = [_find_templates(inputs, names, tokenizer) for inputs in seen.run.inputs]
    seen.authors = lambda model: kind(model, tokenizer, names, **texts)
    return seen


def _texts(recipe, names) -> dict:
    """Return the further texts that a row's method reads."""
    data, texts = recipe.data_settings, {}
    if data.attributes is not None:
        texts["phrases"] = read_attributes(data.attributes, 7)
    if data.descriptions is not None:
        texts["descriptions"] = json.loads(Path(data.descriptions).read_text())
    if data.chinese_clip is not None:
        known = load_chinese_labels(data.chinese_labels)
        texts["chinese_tokenizer"] = BertTokenizer.from_pretrained(data.chinese_clip)
        texts["chinese_names"] = [known[name][0] for name in names]
    return texts


def _find_templates(inputs, names, tokenizer) -> list[int] | None:
    """Return the one template of each caption that a model was given; None where texts are encoded before training."""
    if "input_ids" not in inputs:
        return None
    drawn = []
    for ids, label in zip(inputs["input_ids"][0], inputs["labels"], strict=True):
        known, _ = tokenize(tokenizer, [template.format(names[label]) for template in ACTIONCLIP])
        (template,) = (known == ids).all(1).nonzero().flatten().tolist()
        drawn.append(template)
    return drawn


def _batches(row) -> list[SimpleNamespace]:
    """Return what the authors' loop reads for the first updates."""
    labels, names = torch.tensor(row.parts.train["label"]), list(row.parts.train["name"])
    return [
        SimpleNamespace(
            pixels=inputs.get("pixel_values_videos"),  # BIKE's attributes branch is trained without
            unmixed=batch.get("pixel_values_videos"),
            labels=labels[batch["index"]],
            names=[names[index] for index in batch["index"]],
            templates=drawn,
            discarded=batch.get("discarded_pixel_values"),
            random_state=inputs["random_state"],
        )
        for inputs, batch, drawn in zip(row.run.inputs, row.run.batches, row.drawn, strict=True)
    ][:COMPARED]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """The function that trains and measures the row of a method once."""
    done = {}

    def run(name: str) -> SimpleNamespace:
        if name not in done:
            _, _, start, trained = ROWS[name]
            starts = {start: str(run(trained).folder)} if start else {}
            done[name] = _reproduce(name, tmp_path_factory.mktemp("row"), starts)
        return done[name]

    return run


@pytest.fixture(scope="module", params=ROWS)
def row(request, reproduced) -> SimpleNamespace:
    return reproduced(request.param)


@pytest.fixture(scope="module")
def official(row) -> list:
    """Losses and gradients of the authors' loop from the same weights on the same batches."""
    return row.authors(deepcopy(row.run.start)).train(_batches(row), total=len(row.run.losses))


def test_the_first_three_losses_are_those_of_the_authors_loop(row, official):
    found = row.run.losses[:COMPARED]
    # of logits scaled by 100, so a rounding of 1e-7 in a cosine is 1e-5 here
    assert found == [pytest.approx(losses, abs=1e-5, rel=1e-5) for losses, _ in official]
    assert len(found) == COMPARED


def test_the_first_three_gradients_are_those_of_the_authors_loop(row, official):
    for found, (_, expected) in zip(row.run.gradients, official, strict=False):
        assert found.keys() == expected.keys()
        # an entry is a sum of terms as large as the largest entry, up to hundreds behind scaled logits, in an order of the processor
        limits = {name: 2e-5 * expected[name].abs().max().clamp_min(1) for name in expected}
        assert [name for name in found if (found[name] - expected[name]).abs().max() > limits[name]] == []


def test_every_parameter_has_the_rate_and_the_decay_of_the_authors_groups(row):
    loop = row.authors(row.run.start)
    for number, rule in enumerate(row.run.rules):
        expected = loop.rule(number / len(row.run.rules))
        assert rule == {name: pytest.approx(values, rel=1e-9) for name, values in expected.items()}


def test_the_authors_optimizer_makes_the_same_weights_of_the_same_gradients(row):
    expected = row.authors(deepcopy(row.run.start)).replay(row.run.gradients)
    for found, weights in zip(row.run.weights, expected, strict=True):
        torch.testing.assert_close({name: found[name] for name in weights}, weights, atol=1e-8, rtol=1e-6)


def test_the_weights_after_the_last_update_are_published_though_an_earlier_epoch_was_better(row):
    published, last = load_file(row.folder / "model.safetensors"), row.run.weights[-1]
    assert len(row.run.validated) == 2
    assert [name for name in last if not torch.equal(last[name], published[name])] == []


def test_the_scores_are_those_of_the_authors_test_script_on_as_many_views(row):
    script = row.authors(row.measured)
    with torch.no_grad():
        expected = script.scores(row.views, row.parts.test["name"])
    assert row.views.shape[1] == script.views
    # of cosines times 100
    torch.testing.assert_close(row.report.scores, expected, atol=1e-5, rtol=1e-5)


def test_the_number_of_the_row_is_the_accuracy_of_the_scores_on_the_test_videos(row):
    assert row.report.names == tuple(f"test-{number}.mp4" for number in range(8))
    right = row.report.scores.argmax(1) == torch.tensor(row.parts.test["label"])
    assert row.result["measured"]["top1"] == pytest.approx(100 * right.double().mean().item())


def test_actionclip_draws_a_template_for_each_video_and_epoch(reproduced):
    row = reproduced("actionclip")
    orders = torch.cat([batch["index"] for batch in row.run.batches]).chunk(2)
    drawn = torch.tensor(row.drawn).flatten().chunk(2)
    first, second = (templates[order.argsort()] for templates, order in zip(drawn, orders, strict=True))
    assert len(first.unique()) > 4  # of 12 draws out of 16
    assert (first != second).sum() > 6


@pytest.fixture(scope="module")
def selecting(tmp_path_factory):
    """A run that selects its epoch on validation videos, of data whose validation part is the reported one."""
    smoke = _TwoEpochs(tmp_path_factory.mktemp("smoke"))
    settings = {"evaluation.selection": "validation", "data.test_split": "validation"}
    recipe = smoke.shrink(load_recipe("text4vis/k400-b16-8f")).with_settings(settings)
    parts, folder = prepare_data(recipe, smoke.videos(recipe)), tmp_path_factory.mktemp("selecting") / "run"
    with recording() as run:
        trainer.train(recipe, parts.train, folder, start=smoke.clip, validation=parts.validation)
    return run, parts, load_file(folder / "model.safetensors")


def test_validation_videos_are_neither_trained_on_nor_reported(selecting):
    run, parts, _ = selecting
    names = list(parts.train["name"])
    trained = {names[index] for batch in run.batches for index in batch["index"]}
    (validated,) = set(run.validated)
    assert len(trained) + len(validated) == 12
    assert not trained & set(validated)
    assert not set(parts.test["name"]) & {*trained, *validated}


def test_the_weights_of_the_best_validated_epoch_are_published(selecting):
    run, _, published = selecting
    best = run.weights[len(run.weights) // 2 - 1]
    assert [name for name in best if not torch.equal(best[name], published[name])] == []
