"""Train on videos whose labels a person corrected."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinoclip.inference.suggest import Corrections
from kinoclip.methods.auto import find_model, read_config
from kinoclip.training.recipe import load_recipe
from kinoclip.training.run_folder import RECORD, RESULT
from kinoclip.training.trainer import TrainingResult, train

RECIPE = "finetune/few-shot"


def tune(
    corrections: Corrections,
    output: str | Path,
    *,
    start: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """Train on all corrections, into a new folder or that of the same run; an interrupted run is resumed.

    The start is a CLIP or a recognizer, or "mini"; by default the model of the suggestions, which must be a single
    one, or the one that it was tuned from. Settings are those of the recipe `RECIPE`, by dotted name. Errors are those
    of `train`.
    """
    recipe = load_recipe(RECIPE).with_settings(settings or {})
    source = _find_start(corrections.models) if start is None else start
    read_config(find_model(str(source)))  # raises before the folder is made
    return train(recipe, corrections.dataset(), output, start=source, resume=(Path(output) / RECORD).is_file())


def _find_start(models: Sequence[str]) -> str:
    """Return the model before any tuning, so that each round learns all corrections from the same start."""
    starts = dict.fromkeys(map(_model_before_tuning, models))
    if len(starts) != 1:
        raise ValueError(
            f"The suggestions must come from one model, got {', '.join(starts) or 'none'}. Name one with --start."
        )
    return next(iter(starts))


def _model_before_tuning(model: str) -> str:
    path = Path(model) / RESULT
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("name") == RECIPE:
            return str(record["start"])
    return model
