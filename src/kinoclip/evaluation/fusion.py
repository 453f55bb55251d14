"""Calibrate the weights of a model's branches on validation videos."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.utils import CONFIG_NAME

from kinoclip.evaluation.protocols import Protocol
from kinoclip.evaluation.report import measure
from kinoclip.evaluation.scoring import READS, ViewOutputs, score_views
from kinoclip.methods.auto import read_config
from kinoclip.modeling.recognizer import fuse_logits
from kinoclip.storage import claimed, write_text

_STEPS = 10


def calibrate_fusion(
    config: Any, branches: Sequence[str], views: ViewOutputs, targets: Tensor, rules: Protocol
) -> dict[str, Any]:
    """Measure the fused answer for shares of the video branch from 0 to 1, in steps of 0.1, and for the present share.

    The other branches share the rest in proportion to their present weights, or equally if these are 0.

    Args:
        config: has `fusion` and `fusion_rule`.
        branches: names of the branches of `views.branch_logits`, "video" first.
        views: outputs for the videos.
        targets: (N,) or (N, K).
        rules: of the scoring, which must read the fused logits.

    Returns:
        The "metric", top1 or map; the "curve", a list with "weights" and "value"; its "present" and its "best" row: of equal
        values, that nearest to the present share.

    Source: DSTPR eq. 18 and BIKE eq. 4, whose weights are not printed.
    """
    check_calibration(branches, rules)
    logits: Any = views.branch_logits
    metric = "top1" if targets.ndim == 1 else "map"
    weights: Mapping[str, float] = config.fusion or dict.fromkeys(branches, 1.0)
    total, rest = (sum(weights[name] for name in names) for names in (branches, branches[1:]))
    present = weights["video"] / total

    def measure_share(share: float) -> dict[str, Any]:
        others = {name: weights[name] / rest if rest else 1 / (len(branches) - 1) for name in branches[1:]}
        fusion = {"video": share, **{name: (1 - share) * other for name, other in others.items()}}
        scaled = {name: logits[:, :, number].flatten(0, 1) for number, name in enumerate(branches)}
        fused = fuse_logits(scaled, fusion, config.fusion_rule).unflatten(0, (len(targets), -1))
        value = measure(score_views(ViewOutputs(logits=fused), rules.scoring), targets)[0][metric]
        return {"weights": {name: round(weight, 4) for name, weight in fusion.items()}, "value": value}

    shares = sorted({step / _STEPS for step in range(_STEPS + 1)} | {present})
    curve = [measure_share(share) for share in shares]
    best = max(zip(shares, curve, strict=True), key=lambda pair: (pair[1]["value"], -abs(pair[0] - present)))[1]
    return {"metric": metric, "curve": curve, "present": curve[shares.index(present)], "best": best}


def check_calibration(branches: Collection[str] | None, rules: Protocol) -> None:
    """Check that a model has several branches, and that a protocol reads their fusion, or raise a `ValueError`."""
    if len(branches or ()) < 2:
        raise ValueError("Only a model with several branches has weights to calibrate, and this one votes with one.")
    if READS[rules.scoring] != ("logits",):
        raise ValueError(f"The protocol must read the fused logits, such as single_view; {rules.title!r} does not.")


def read_fusion_config(folder: str | Path) -> tuple[Any, Any]:
    """Read the config of a model folder; return it and the one in it that has the weights of the branches."""
    if not (Path(folder) / CONFIG_NAME).is_file():
        raise ValueError(f"The weights of the branches can be saved in a model folder only, and {folder} is none.")
    config = read_config(str(folder))
    inner = getattr(config, "recognizer_config", None) or config
    if not hasattr(inner, "set_fusion"):
        raise ValueError(f"{folder} is a {config.model_type!r} model, whose config has no weights of branches.")
    return config, inner


def save_fusion(folder: str | Path, weights: Mapping[str, float]) -> Path:
    """Replace the weights of the branches in the config of a model folder, atomically."""
    config, inner = read_fusion_config(folder)
    inner.set_fusion(weights)
    return write_text(Path(folder) / CONFIG_NAME, config.to_json_string(), owns=claimed)
