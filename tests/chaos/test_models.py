"""Models of strangers, loaded in children with 5 s and 500 MB: an answer of finite numbers, or one clear error."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from chaos.limits import IS_FULL, limited
from chaos.models import inflate, number_attacks
from transformers.utils import logging

from kinoclip.inference.backends import load_recognizer
from kinoclip.inference.classifier import Classifier
from kinoclip.inference.records import classification_record
from kinoclip.methods.auto import mini_clip_path
from kinoclip.modeling.checkpoints import read_checkpoint
from kinoclip.video.errors import error_line

SEED = 20261129
LIMITS = {"memory_bytes": 500_000_000, "seconds": 20, "cpu_seconds": 5}
VIDEO = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), np.uint8)


def use(folder: Path) -> str:
    """Load a model and classify a video: "frames" for finite numbers, "error" for one clear line, or what happened."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        answer = Classifier(*load_recognizer(folder)).classify(VIDEO, ["red circle", "blue square"])
        json.dumps(classification_record(answer, None), allow_nan=False)
    except (ValueError, FileNotFoundError) as error:
        return "error" if len(error_line(error)) > 10 and len(str(error)) < 2000 else f"unclear: {error}"
    return "frames"


@pytest.mark.parametrize("kind", ["own", "plain CLIP"])
def test_plausible_numbers_that_are_too_large(kind, model_folder, tmp_path, hold):
    good, outcomes = model_folder if kind == "own" else mini_clip_path(), {}
    bad = shutil.copytree(good, tmp_path / "bad")
    assert limited(lambda: use(bad), **LIMITS) == "frames"
    attacks = list(number_attacks(good))
    for name, file, content in random.Random(SEED).sample(attacks, 300 if IS_FULL else 12):
        whole = (bad / file).read_bytes()
        (bad / file).write_bytes(content)
        outcomes[name] = limited(lambda: use(bad), **LIMITS)
        (bad / file).write_bytes(whole)
    hold(outcomes)


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        *(("zip", kind) for kind in ("compressed tensors", "a member of zeros", "many members")),
        *(("TorchScript", kind) for kind in ("compressed tensors", "a member of zeros")),
    ],
)
def test_archives_that_inflate(kind, form, tmp_path, hold):
    if form == "zip":
        torch.save({"weight": torch.ones(600)}, tmp_path / "a.pt")
    else:
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 300)), tmp_path / "a.pt")
    inflate(tmp_path / "b.pt", tmp_path / "a.pt", kind)

    def read() -> str:
        try:
            read_checkpoint(tmp_path / "b.pt")
        except ValueError as error:
            return "error" if "\n" not in str(error) else f"unclear: {error}"
        return "accepted"

    outcome = limited(read, **LIMITS)
    assert outcome == "error"
    hold({f"{form}, {kind}": outcome})
