"""Losses against tensors recorded from the official BIKE code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kinoclip.losses import dual_softmax, label_match, row_kl, symmetric_kl

# The recordings are float32 and below 10, so 1e-5 leaves room for a different order of summation and nothing else.
ATOL = 1e-5


@pytest.fixture(scope="module")
def recorded() -> dict[str, torch.Tensor]:
    return load_file(Path(__file__).parent / "recordings" / "bike_nce_loss.safetensors")


def test_the_match_of_repeated_labels_is_the_official_ground_truth(recorded):
    assert torch.equal(label_match(recorded["labels"], recorded["labels"]), recorded["ground_truth"])


@pytest.mark.parametrize(("name", "prepare"), [("NCE", torch.clone), ("DS", dual_softmax)])
def test_each_direction_of_the_contrastive_loss_is_the_official_one(recorded, name, prepare):
    logits, match = recorded["logits"], recorded["ground_truth"]

    images = row_kl(prepare(logits), match)
    texts = row_kl(prepare(logits.T), match.T)

    torch.testing.assert_close(images, recorded[f"{name}.loss_images"], atol=ATOL, rtol=0)
    torch.testing.assert_close(texts, recorded[f"{name}.loss_texts"], atol=ATOL, rtol=0)


@pytest.mark.parametrize(("name", "use_dual_softmax"), [("NCE", False), ("DS", True)])
def test_the_contrastive_loss_and_its_gradient_are_the_official_ones(recorded, name, use_dual_softmax):
    logits = recorded["logits"].clone().requires_grad_()

    loss = symmetric_kl(logits, recorded["ground_truth"], use_dual_softmax=use_dual_softmax)
    loss.backward()

    torch.testing.assert_close(loss.detach(), recorded[f"{name}.loss"], atol=ATOL, rtol=0)
    torch.testing.assert_close(logits.grad, recorded[f"{name}.grad_logits"], atol=ATOL, rtol=0)
