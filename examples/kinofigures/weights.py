"""What weighting frames by words does to an untrained CLIP: with sharper and flatter weights, and with fewer frames.

python examples/kinofigures/weights.py [--clips 40]: validation clips per class, of one action each ("actions", top-1) and of three with
pauses ("untrimmed", mean average precision). The frames that count are the exponential of the entropy of the weights of a right class.
"""

import argparse

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kinoclip.data import load_videos
from kinoclip.data.samples import ReadableSamples, VideoSamples, class_names, collate_readable
from kinoclip.evaluation.evaluate import read_targets
from kinoclip.evaluation.metrics import mean_average_precision, topk_accuracy
from kinoclip.methods.candidates import encode_candidates
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures
from kinoclip.training.build_model import build_model
from kinoclip.training.recipe import load_recipe

TEMPERATURES = (0.005, 0.01, 0.02, 0.05, 0.1, 1.0)


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=40, help="validation clips per class")
    clips = parser.parse_args(arguments).clips
    for task, num_frames in (("actions", 8), ("untrimmed", 16)):
        dataset = load_videos(f"kinofigures/{task}:1:{clips}", split="validation")
        names = class_names(dataset)
        model, processor = build_model(load_recipe("kinofigures/clip-saliency"), names, "mini")
        model.eval()
        processor.video_processor.num_frames = num_frames
        samples = ReadableSamples(VideoSamples(dataset, processor.video_processor))
        batches = DataLoader(samples, 16, collate_fn=collate_readable)
        frames = torch.cat([model.encode_frames(batch["pixel_values_videos"]).embeds for batch in batches])
        text = encode_candidates(model, processor, names)
        targets = read_targets(dataset, range(len(dataset)), len(names))
        print(f"{task}, {len(frames)} clips of {num_frames} frames")
        for temperature in TEMPERATURES:
            model.config.saliency_temperature = temperature
            weights = model.saliency(FrameFeatures(embeds=frames), text).clamp_min(1e-12)
            entropy = -(weights * weights.log()).sum(-1)
            right = targets if targets.ndim == 2 else torch.nn.functional.one_hot(targets, len(names))
            count = entropy[right.bool()].exp().mean()
            score = measure(model, frames, text, targets)
            print(f"  weights, temperature {temperature:g}: {count:.1f} frames count, {score:.1%}")
        model.config.interaction = "mean"
        draw = torch.rand(frames.shape[:2], generator=torch.Generator().manual_seed(0)).argsort(1)
        for kept in (1, 2, 4, 8, 16)[: num_frames.bit_length()]:
            chosen = frames.take_along_dim(draw[:, :kept, None].sort(1).values, 1)
            print(f"  mean of {kept} frames drawn at random: {measure(model, chosen, text, targets):.1%}")


def measure(model, frames: Tensor, text: TextFeatures, targets: Tensor) -> float:
    """Return top-1 accuracy, or mean average precision for several labels, of features (N, T, D)."""
    parts = [model(frame_features=FrameFeatures(embeds=part), text_features=text).logits for part in frames.split(64)]
    score = topk_accuracy if targets.ndim == 1 else mean_average_precision
    return score(torch.cat(parts), targets)


if __name__ == "__main__":
    main()
