"""Training and precision: losses, checkpointing, attention, number formats."""

import copy

import pytest
import torch
from transformers import Trainer, TrainingArguments
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer

from kinoclip.modeling.losses import cross_entropy

from .conftest import EVERY_KIND, ONE_OF_EACH_METHOD


@pytest.fixture
def model(fresh):
    return fresh


@pytest.fixture
def training_inputs(inputs):
    return inputs | {"labels": torch.tensor([2, 0]), "candidate_labels": torch.tensor([0, 1, 2])}


def _gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_every_loss_is_named_and_their_sum_is_the_loss(model, training_inputs):
    output = model(**training_inputs)
    assert output.losses.keys() == output.votes.keys()
    torch.testing.assert_close(output.loss, sum(output.losses.values()))


def test_class_ids_counted_from_zero_and_multi_hot_labels_have_the_same_loss(model, training_inputs):
    by_id = model(**training_inputs).loss
    assert torch.equal(model(**training_inputs | {"candidate_labels": None}).loss, by_id)
    training_inputs |= {"labels": torch.tensor([[0, 0, 1], [1, 0, 0]]), "candidate_labels": None}
    assert torch.equal(model(**training_inputs).loss, by_id)


def test_candidates_with_the_same_label_are_all_right(model, training_inputs):
    shared = model(**training_inputs | {"candidate_labels": torch.tensor([2, 0, 2])}).losses
    training_inputs |= {"labels": torch.tensor([[1, 0, 1], [0, 1, 0]]), "candidate_labels": None}
    assert model(**training_inputs).losses == shared


def test_a_config_can_ask_for_cross_entropy(model, inner, training_inputs):
    inner.config.loss = "cross_entropy"
    output = model(**training_inputs)
    match = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
    expected = cross_entropy(
        model.unwrap().scale_votes(output.votes, output.video_embeds, output.text)["video"], match
    )
    torch.testing.assert_close(output.losses["video"], expected)


@EVERY_KIND
def test_freezing_leaves_the_frozen_weights_without_gradient_and_gives_the_others_one(model, training_inputs):
    frozen = model.freeze()
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert bool(frozen) == bool(model.frozen_prefixes())
    assert sorted(frozen + trained) == sorted(dict(model.named_parameters()))
    model.requires_grad_(False)
    assert model.freeze() == frozen
    model(**training_inputs).loss.backward()
    without = {name for name, gradient in _gradients(model).items() if gradient is None}
    # CLIP's scale has no part in the loss where only another branch is trained
    assert without == set(frozen)


def test_activation_checkpointing_runs_every_layer_twice_and_changes_no_gradient(
    model, inner, prefix, training_inputs
):
    model.train()
    model(**training_inputs).loss.backward()
    expected = copy.deepcopy(_gradients(model))
    model.zero_grad()
    model.activation_checkpointing_enable()
    runs = {name: 0 for name, module in model.named_modules() if isinstance(module, CLIPEncoderLayer)}
    _count_runs(model, runs)

    model(**training_inputs).loss.backward()

    found = {name.removeprefix(prefix).partition(".")[0] for name in runs}
    assert found >= {"vision_model", "text_model"}
    has_layers = getattr(inner.config, "temporal_head", "none") in ("transformer", "transformer_cls")
    assert ("temporal_head" in found) == has_layers
    passes = {name: 2 * _passes(model, name) for name in runs}
    assert runs == passes
    # the same arithmetic twice, on one thread
    torch.testing.assert_close(_gradients(model), expected, atol=1e-6, rtol=1e-5)


def _count_runs(model, runs):
    for name in runs:
        # attention runs inside of the checkpointed part of a layer, so it counts recomputation too
        attention = model.get_submodule(name).self_attn
        attention.register_forward_pre_hook(lambda *_, name=name: runs.update({name: runs[name] + 1}))


def _passes(model, name):
    """How often a layer runs in one step: a text tower reads the attributes too, where it is the branch's."""
    config = model.unwrap().config
    reads_attributes = {"shared": "text_model.", "own": "attributes."}.get(getattr(config, "attributes", "none"))
    return 2 if reads_attributes and name.removeprefix("recognizer.").startswith(reads_attributes) else 1


@EVERY_KIND
def test_both_attention_implementations_give_the_same(model, inner, inputs):
    results = {}
    for implementation in ("eager", "sdpa"):
        changed = copy.deepcopy(model)  # older Transformers change that of a temporal head once only
        changed.set_attn_implementation(implementation)
        used = {m.config._attn_implementation for m in changed.modules() if isinstance(m, CLIPAttention)}
        assert used == {implementation}
        with torch.no_grad():
            results[implementation] = changed(**inputs).votes
    # cosines; two ways to sum a softmax over at most 77 positions
    torch.testing.assert_close(results["eager"], results["sdpa"], atol=1e-5, rtol=0)


def test_the_attention_asked_for_on_loading_is_used_everywhere(model, inner, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, attn_implementation="eager")
    assert {m.config._attn_implementation for m in loaded.modules() if isinstance(m, CLIPAttention)} == {"eager"}


def test_bfloat16_gives_nearly_the_same_scores(model, inputs):
    with torch.no_grad():
        expected = model(**inputs).votes
        found = model.bfloat16()(**inputs).votes
    assert {vote.dtype for vote in found.values()} == {torch.bfloat16}
    # bfloat16 has 8 bits: 2^-8 of a score that is at most 1, and some more from the towers
    found = {name: vote.float() for name, vote in found.items()}
    torch.testing.assert_close(found, expected, atol=1.5e-2, rtol=0)


def test_autocast_trains_in_bfloat16(model, training_inputs):
    model.freeze()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**training_inputs).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(g.isfinite().all() for g in _gradients(model).values() if g is not None)


@pytest.mark.parametrize("kind", ONE_OF_EACH_METHOD)
def test_the_trainer_of_transformers_trains_and_evaluates_it(model, training_inputs, tmp_path):
    pixels = training_inputs.pop("pixel_values_videos")
    rows = [{"pixel_values_videos": video, "labels": label} for video, label in zip(pixels, (2, 0), strict=True)] * 2
    others = {name: value for name, value in training_inputs.items() if name != "labels"}

    def collate(rows):
        columns = {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}
        return columns | others

    def measure(evaluated):
        shares = evaluated.predictions.shape, evaluated.label_ids.tolist()
        assert shares == ((4, 3), [2, 0, 2, 0])
        return {"accuracy": float((evaluated.predictions.argmax(-1) == evaluated.label_ids).mean())}

    options = {"max_steps": 2, "report_to": [], "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    sizes = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 2}
    model.freeze()
    trained = next(parameter for parameter in model.parameters() if parameter.requires_grad)
    before = trained.detach().clone()
    trainer = Trainer(
        model,
        TrainingArguments(tmp_path, **options, **sizes),
        data_collator=collate,
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=measure,
    )
    trainer.train()
    metrics = trainer.evaluate()
    assert trainer.state.global_step == 2
    assert not torch.equal(trained, before)
    model.eval()
    with torch.no_grad():
        output = model(**collate(rows[:2]))
    assert metrics["eval_loss"] == pytest.approx(output.loss.item(), rel=1e-4)
    assert metrics["eval_accuracy"] == (output.logits.argmax(-1) == torch.tensor([2, 0])).float().mean().item()


@pytest.mark.parametrize("kind", ["dstpr", "sllm_frozen_teacher"])
def test_what_never_gets_a_gradient_is_frozen_from_the_start(model, training_inputs, tmp_path):
    model.save_pretrained(tmp_path)
    for each in (model, type(model).from_pretrained(tmp_path)):
        each(**training_inputs).loss.backward()
        assert not [name for name, p in each.named_parameters() if p.requires_grad and p.grad is None]
