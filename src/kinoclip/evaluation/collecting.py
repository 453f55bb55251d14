"""One pass over a data set: each video is looked at exactly once, by any number of processes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from kinoclip.components.text_features import ensemble
from kinoclip.data.samples import VideoSamples, collate
from kinoclip.outputs import RecognitionOutput, TextFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.video import VideoDecodeError

from .protocols import Protocol
from .scoring import READS, ViewOutputs

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Collected:
    """What a pass saw, in the order of the data set.

    Attributes:
        indices: rows of the data set that could be read.
        views: outputs of their views, on the CPU, with what the scoring rule reads.
        failures: row to what was wrong with its video.
    """

    indices: list[int]
    views: ViewOutputs
    failures: dict[int, str]


Step = Callable[[Tensor | None, list[int]], RecognitionOutput]


def collect_views(
    model: VideoRecognizer,
    video_processor: Any,
    dataset: Any,
    protocol: Protocol,
    text: TextFeatures,
    *,
    step: Step | None = None,
    accelerator: Accelerator | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    report: Callable[[int], None] | None = None,
) -> Collected:
    """Run a model over all views of all videos; no video is read where the attributes branch alone is scored.

    Args:
        model: in evaluation mode.
        video_processor: decodes; the protocol decides on its views.
        dataset: as `kinoclip.data.load_videos` gives it.
        protocol: how many views, and what of their outputs is kept.
        text: features of the candidates.
        step: from pixels (B * V, T, 3, H, W), or None, and rows of the data set to an output; `forward` when left out.
        accelerator: each of its processes takes every n-th video; all of them get the whole result.
        batch_size: videos per step.
        num_workers: processes that decode.
        report: called with the number of videos of each batch.
    """
    shares = (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
    names = READS[protocol.scoring]
    samples = ReadableVideos(
        VideoSamples(dataset, _with_views(video_processor, protocol)), names != ("attribute_scores",)
    )
    mine = Subset(samples, range(shares[0], len(samples), shares[1]))
    loader = DataLoader(mine, batch_size, num_workers=num_workers, collate_fn=collate_readable)
    run = step or (lambda pixels, _: model(pixel_values_videos=pixels, text_features=text))
    rows: list[tuple[int, dict[str, Tensor]]] = []
    failures: dict[int, str] = {}
    for batch, failed in loader:
        failures |= failed
        if batch is not None:
            rows += _run_batch(model, batch, run, names)
        if report is not None:
            report(len(failed) + (0 if batch is None else len(batch["index"])))
    if shares[1] > 1:
        rows, failures = _gather(rows, failures)
    if not rows:
        first = next(iter(failures.values()), "the data set is empty")
        raise ValueError(f"None of the {len(dataset)} videos could be read; the first: {first}")
    rows.sort(key=lambda row: row[0])
    stacked = {name: torch.stack([tensors[name] for _, tensors in rows]) for name in rows[0][1]}
    return Collected([index for index, _ in rows], _add_text(ViewOutputs(**stacked), text), failures)


@torch.inference_mode()
def _run_batch(
    model: VideoRecognizer, batch: dict[str, Tensor], run: Step, names: tuple[str, ...]
) -> list[tuple[int, dict[str, Tensor]]]:
    videos, pixels = len(batch["index"]), batch.get("pixel_values_videos")
    output = run(None if pixels is None else pixels.to(model.device, model.dtype), batch["index"].tolist())
    found: dict[str, Any] = {
        "logits": output.logits,
        "scores": output.votes.get("video"),
        "attribute_scores": output.votes.get("attributes"),
        "video_embeds": _embed_videos(output),
        "frame_embeds": None if output.frames is None else output.frames.embeds,
    }
    views = {name: found[name].float().cpu().unflatten(0, (videos, -1)) for name in names}
    if "attribute_scores" in views:
        views["attribute_scores"] = views["attribute_scores"][:, 0]  # the same for all views
    return [(int(index), {name: views[name][i] for name in names}) for i, index in enumerate(batch["index"])]


def _embed_videos(output: RecognitionOutput) -> Tensor | None:
    """Give (B * V, D); the mean of the frames where the pooling depends on the candidate."""
    embeds = output.video_embeds
    return output.frames.embeds.mean(1) if embeds is not None and embeds.ndim == 3 and output.frames else embeds


def _add_text(views: ViewOutputs, text: TextFeatures) -> ViewOutputs:
    embeds = text.embeds.float().cpu()
    # one template is used as it is: the length of its embedding counts in some official rules
    return replace(views, class_embeds=embeds[0] if len(embeds) == 1 else ensemble(embeds), template_embeds=embeds)


def _with_views(video_processor: Any, protocol: Protocol) -> Any:
    changed = copy.copy(video_processor)
    changed.num_clips, changed.num_crops = protocol.num_clips, protocol.num_crops
    changed.sampling = protocol.sampling or changed.sampling
    if protocol.full_side:
        changed.size = {"shortest_edge": changed.crop_size["height"]}
        changed.crops_along_long_side = True
    return changed


class ReadableVideos(Dataset):  # type: ignore[type-arg]
    """Samples, with the reason in the place of those that cannot be read; or their indices alone, without reading videos."""

    def __init__(self, samples: VideoSamples, reads_videos: bool = True):
        self.samples, self.reads_videos = samples, reads_videos

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not self.reads_videos:
            return {"index": index}
        try:
            return self.samples[index]
        except VideoDecodeError as error:
            return {"index": index, "error": str(error)}


def collate_readable(samples: list[dict[str, Any]]) -> tuple[dict[str, Tensor] | None, dict[int, str]]:
    """Return a batch of the samples that could be read, None if there is none, and the rows that could not, with reasons."""
    readable = [sample for sample in samples if "error" not in sample]
    failed = {sample["index"]: sample["error"] for sample in samples if "error" in sample}
    if readable and "labels" not in readable[0]:
        return {"index": torch.tensor([sample["index"] for sample in readable])}, failed
    return (collate(readable) if readable else None), failed


def _gather(
    rows: list[tuple[int, dict[str, Tensor]]], failures: dict[int, str]
) -> tuple[list[tuple[int, dict[str, Tensor]]], dict[int, str]]:
    from accelerate.utils import gather_object

    parts = gather_object([(rows, failures)])
    return (
        [row for part, _ in parts for row in part],
        {index: why for _, part in parts for index, why in part.items()},
    )
