"""Checkpoints that carry their own candidates."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from .conftest import EVERY_KIND, LABELS

# tensors of a file lie at other addresses, and a product of matrices is summed up in another order there
ROUNDED = {"atol": 1e-4, "rtol": 1e-5}


@pytest.fixture
def model(fresh):
    return fresh


@pytest.fixture
def closed(model, output):
    return model.set_candidates(LABELS, output.text)


@pytest.fixture
def closed_inputs(pixels, extra):
    return {"pixel_values_videos": pixels, **extra}


def test_stored_candidates_give_the_logits_of_passed_ones_also_after_saving(closed, output, closed_inputs, tmp_path):
    with torch.no_grad():
        assert torch.equal(closed(**closed_inputs).logits, output.logits)
    closed.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert loaded.config.id2label == dict(enumerate(LABELS))
    assert loaded.config.label2id == {label: i for i, label in enumerate(LABELS)}
    assert type(closed)(closed.config).candidates().embeds.shape == closed.candidates().embeds.shape
    with torch.no_grad():
        found = loaded.eval()(**closed_inputs).logits
    torch.testing.assert_close(found, output.logits, **ROUNDED)


def test_given_candidates_count_more_than_stored_ones(closed, output, inputs, candidates):
    first_two = {name: tensor[:, :2] for name, tensor in candidates.items()}
    with torch.no_grad():
        votes = closed(**inputs | first_two).votes["video"]
    torch.testing.assert_close(votes, output.votes["video"][:, :2], atol=1e-6, rtol=1e-5)


def test_other_candidates_replace_stored_ones(closed, candidates, closed_inputs, tmp_path):
    with torch.no_grad():
        two = closed.encode_text(**{name: tensor[:, :2] for name, tensor in candidates.items()})
    closed.set_candidates(LABELS[:2], two).save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert loaded.config.num_labels == 2
    with torch.no_grad():
        assert loaded(**closed_inputs).logits.shape == (2, 2)


@pytest.mark.parametrize(
    ("names", "message"), [(["a", "b"], "one name per candidate, got 2 names for 3"), (list("aba"), "'a' names two")]
)
def test_each_candidate_has_one_name(model, output, names, message):
    with pytest.raises(ValueError, match=message):
        model.set_candidates(names, output.text)


def test_stored_candidates_follow_the_dtype_of_the_model(closed, closed_inputs, tmp_path):
    closed.half().save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert loaded.candidates().embeds.dtype == torch.float32
    with torch.no_grad():
        assert loaded(**closed_inputs).logits.dtype == torch.float32


@EVERY_KIND
def test_without_its_text_tower_a_checkpoint_is_smaller_and_gives_the_same(
    closed, prefix, pixels, candidates, tmp_path
):
    with torch.no_grad():
        expected = closed(pixel_values_videos=pixels).logits
    closed.save_pretrained(tmp_path / "whole")
    closed.drop_text_tower().save_pretrained(tmp_path / "small")
    whole, small = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "small"))
    towers = ("text_model", "text_projection", "chinese")
    texts = tuple(f"{copy}{name}." for copy in (prefix, "teacher.") for name in towers)
    dropped = {name for name in whole if name.startswith(texts)}
    assert dropped
    assert small.keys() == whole.keys() - dropped

    loaded, report = AutoModel.from_pretrained(tmp_path / "small", output_loading_info=True)

    assert not any(report.values())
    with torch.no_grad():
        found = loaded.eval()(pixel_values_videos=pixels).logits
    torch.testing.assert_close(found, expected, **ROUNDED)
    with pytest.raises(ValueError, match="has no text tower: it knows only its own candidates"):
        loaded.encode_text(**candidates)


def test_without_its_text_tower_a_checkpoint_can_miss_other_weights(closed, prefix, tmp_path):
    closed.drop_text_tower().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    del state[f"{prefix}logit_scale"]
    save_file(state, path, metadata={"format": "pt"})
    loaded = AutoModel.from_pretrained(tmp_path)
    assert loaded.unwrap().logit_scale.item() == pytest.approx(2.6592)


def test_a_model_without_text_tower_trains_with_its_candidates(closed, inner, closed_inputs):
    closed.drop_text_tower()
    closed.freeze()
    if "attribute_input_ids" in closed_inputs and inner.config.attributes == "shared":
        with pytest.raises(ValueError, match="has no text tower"):
            closed(**closed_inputs)
        return
    loss = closed.train()(**closed_inputs, labels=torch.tensor([0, 2])).loss
    loss.backward()
    gradients = [parameter.grad for parameter in closed.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
