"""The metrics as modules of `evaluate`, loaded from this folder without network."""

from pathlib import Path
from typing import Any

MODULES = ("mean_average_precision", "mean_class_accuracy", "topk_accuracy")


def load_metric(name: str, **options: Any) -> Any:
    """Load a metric for `add_batch` and `compute`, e.g. with `evaluate.combine` or in another training loop.

    Args:
        name: one of `MODULES`.
        options: of `evaluate.load`.

    Raises:
        ValueError: there is none of that name.
    """
    import evaluate

    if name not in MODULES:
        raise ValueError(f"There is no metric {name!r}. Use one of {', '.join(MODULES)}.")
    return evaluate.load(str(Path(__file__).parent / f"{name}.py"), **options)
