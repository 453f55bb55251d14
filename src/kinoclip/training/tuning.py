"""Learn from a few videos that a person labelled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinoclip.data.suggestions import Corrections
from kinoclip.embedded import EMBEDDED
from kinoclip.inference.loading import read_config

from .loop import TrainingResult, train
from .output import RECORD, RESULT
from .recipe import load_recipe

RECIPE = "finetune/few-shot"


def tune(
    corrections: Corrections,
    output: str | Path,
    *,
    start: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """Train a head on the videos that were checked; a run that was interrupted goes on.

    Args:
        corrections: what is learned, all of it each time.
        output: a new folder, or that of the same run.
        start: a CLIP or a recognizer, or "mini"; what the suggestions came from when left out, or what that was tuned from.
        settings: of the recipe `RECIPE`, by dotted name.

    Raises:
        ValueError: nothing says what to start from, or of `train`.
    """
    recipe = load_recipe(RECIPE).with_settings(settings or {})
    started = _find_start(corrections.models) if start is None else start
    if str(started) != EMBEDDED:
        read_config(str(started))  # before a folder is made that would hold the wrong start
    resume = (Path(output) / RECORD).is_file()
    return train(recipe, corrections.dataset(), output, start=started, resume=resume)


def _find_start(models: Sequence[str]) -> str:
    """Go back to what was there before any tuning, so that each round learns all corrections from the same start."""
    starts = dict.fromkeys(map(_before_tuning, models))
    if len(starts) != 1:
        raise ValueError(
            f"The suggestions came from {', '.join(starts) or 'no model that the table names'}. Say with --start what to start from."
        )
    return next(iter(starts))


def _before_tuning(model: str) -> str:
    place = Path(model) / RESULT
    if place.is_file():
        made = json.loads(place.read_text(encoding="utf-8"))
        if made.get("name") == RECIPE:
            return str(made["start"])
    return model
