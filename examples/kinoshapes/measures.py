"""What is measured on KinoShapes beside accuracy."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cosine_similarity

from kinoclip.data.samples import VideoSamples
from kinoclip.evaluation.report import Report
from kinoclip.inference.attributes import AttributeFinder
from kinoclip.inference.loading import load_recognizer


def measure_groups(report: Report, classes: Sequence[Any]) -> dict[str, float]:
    """Give the accuracy on all videos, and on those of each group of classes."""
    right = (report.scores.argmax(1) == report.targets).double()
    groups = [classes[i].group for i in report.targets.tolist()]
    found = {"all": right.mean().item()}
    for name in dict.fromkeys(groups):
        found[name] = right[[group == name for group in groups]].mean().item()
    return found


def describe_videos(dataset: Any, lexicon: Sequence[str]) -> dict[str, list[str]]:
    """Find the phrases that describe each video, as the attributes branch reads them."""
    finder = AttributeFinder(*load_recognizer("mini"), lexicon)
    return {row["name"]: finder.find(row["video"]["bytes"]) for row in dataset}


@torch.inference_mode()
def agree_with_spans(model: Any, processor: Any, dataset: Any) -> dict[str, float]:
    """Give the share of a label's saliency that falls on the frames that show it, and their share of the video's frames."""
    names = dataset.features["label"].feature.names
    text = model.encode_text(**processor(text=names))
    hits, shares = [], []
    for row in dataset:
        sample = processor.video_processor.sample(row["video"]["bytes"], num_frames=16)
        frames = model.encode_frames(sample.pixel_values)
        saliency = model.saliency(frames, text)
        if saliency is None:
            return {}
        for span in row["spans"]:
            inside = torch.tensor([span["start_frame"] <= i < span["end_frame"] for i in sample.indices])
            hits.append(saliency[0, names.index(span["label"]), inside].sum().item())
            shares.append(inside.double().mean().item())
    return {"inside": statistics.fmean(hits), "share_of_frames": statistics.fmean(shares)}


@torch.inference_mode()
def compare_restored(model: Any, processor: Any, dataset: Any) -> float:
    """Give the mean cosine of restored frames with what the encoder makes of the frames that were left out."""
    samples = VideoSamples(dataset, processor.video_processor, discarded=True)
    cosines = []
    for i in range(len(samples)):
        sample = samples[i]
        kept = model.encode_frames(sample["pixel_values_videos"]).embeds
        step = model._step
        restored = torch.cat([kept[:, offset::step] for offset in range(1, step)], 1)
        real = model.recognizer.encode_frames(sample["discarded_pixel_values"]).embeds
        order = [j for offset in range(step - 1) for j in range(offset, real.shape[1], step - 1)]
        cosines.append(cosine_similarity(restored, real[:, order], dim=-1).mean().item())
    return statistics.fmean(cosines)


@torch.inference_mode()
def measure_speed(folders: dict[str, Path], device: str, rounds: int = 7, videos: int = 16) -> dict[str, float]:
    """Give videos per second from pixels to logits; all models take turns, and each gets the median of its rounds."""
    jobs = {}
    for name, folder in folders.items():
        model, processor = load_recognizer(folder, device=device)
        sampled = getattr(processor, "video_processor", processor).num_frames
        frames = model.config.encoded_frames(sampled)
        size = model.config.frame_size
        pixels = torch.randn(videos, frames, 3, size, size, device=device)
        jobs[name] = (model, pixels, model.candidates())
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds + 1):
        for name, (model, pixels, text) in jobs.items():
            start = time.perf_counter()
            model(pixel_values_videos=pixels, text_features=text)
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: videos / statistics.median(seconds[1:]) for name, seconds in times.items()}
