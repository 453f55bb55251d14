"""Losses against tensors recorded from the official BIKE code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kinoclip.modeling.losses import dual_softmax, label_match, row_kl, symmetric_kl

# The recordings are float32 and below 10, so 1e-5 leaves room for a different order of summation and nothing else.
ATOL = 1e-5


@pytest.fixture(scope="module")
def recorded() -> dict[str, torch.Tensor]:
    return load_file(Path(__file__).parent / "recordings" / "bike_nce_loss.safetensors")


def test_the_match_of_repeated_labels_is_the_official_ground_truth(recorded):
    assert torch.equal(label_match(recorded["labels"], recorded["labels"]), recorded["ground_truth"])


@pytest.mark.parametrize("name", ["NCE", "DS"])
def test_the_contrastive_loss_its_directions_and_its_gradient_are_the_official_ones(recorded, name):
    logits, match = recorded["logits"].clone().requires_grad_(), recorded["ground_truth"]
    prepare = dual_softmax if name == "DS" else torch.clone
    loss = symmetric_kl(logits, match, use_dual_softmax=name == "DS")
    loss.backward()
    found = {
        "loss_images": row_kl(prepare(logits), match).detach(),
        "loss_texts": row_kl(prepare(logits.T), match.T).detach(),
        "loss": loss.detach(),
        "grad_logits": logits.grad,
    }
    expected = {key: recorded[f"{name}.{key}"] for key in found}
    torch.testing.assert_close(found, expected, atol=ATOL, rtol=0)
