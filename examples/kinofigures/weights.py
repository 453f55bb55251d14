"""What weighting frames by words does: with sharper and flatter weights, and with fewer frames, before and after training.

python examples/kinofigures/weights.py [RUN ...] [--clips 40]: folders of trained BIKE rows below DIR/runs of `kinoclip reproduce kinofigures
--output DIR`, and validation clips per class, of one action each ("actions", top-1) and of three with pauses ("untrimmed", mean average
precision). The frames that count are the exponential of the entropy of the weights of a right class. Frames that are left out of a mean do
not reach a temporal head either.
"""

import argparse

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader

from kinoclip.data import load_videos
from kinoclip.data.samples import ReadableSamples, VideoSamples, class_names, collate_readable
from kinoclip.evaluation.evaluate import read_targets
from kinoclip.evaluation.metrics import mean_average_precision, topk_accuracy
from kinoclip.inference.backends import load_recognizer
from kinoclip.methods.candidates import encode_candidates
from kinoclip.modeling.outputs import FrameFeatures
from kinoclip.modeling.video_processing import frame_inputs
from kinoclip.training.build_model import build_model
from kinoclip.training.recipe import load_recipe

TEMPERATURES = (0.005, 0.01, 0.02, 0.05, 0.1, 1.0)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--clips", type=int, default=40, help="validation clips per class")
    options = parser.parse_args(arguments)
    for task, num_frames in (("actions", 8), ("untrimmed", 16)):
        dataset = load_videos(f"kinofigures/{task}:1:{options.clips}", split="validation")
        model, processor = build_model(load_recipe("kinofigures/clip-saliency"), class_names(dataset), "mini")
        processor.video_processor.num_frames = num_frames
        print(f"{task}, {len(dataset)} clips of {num_frames} frames")
        weigh(model, processor, dataset)
        if task == "actions":
            for run in options.runs:
                print(run)
                weigh(*load_recognizer(run, dtype="float32"), dataset)


@torch.inference_mode()
def weigh(model, processor, dataset) -> None:
    """Print the accuracy of a model by the temperature of its weights, and by the number of frames that it averages."""
    names = class_names(dataset)
    text = encode_candidates(model.eval(), processor, names)
    samples = ReadableSamples(VideoSamples(dataset, processor.video_processor))
    batches = DataLoader(samples, 16, collate_fn=collate_readable)
    frames = torch.cat([model.encode_frames(**frame_inputs(batch, model.device)).embeds for batch in batches])
    targets = read_targets(dataset, range(len(dataset)), len(names)).to(model.device)
    right = (targets if targets.ndim == 2 else one_hot(targets, len(names))).bool()

    def measure(frames: Tensor) -> float:
        parts = [model(frame_features=FrameFeatures(embeds=part), text_features=text) for part in frames.split(64)]
        score = topk_accuracy if targets.ndim == 1 else mean_average_precision
        return score(torch.cat([part.logits for part in parts]), targets)

    for temperature in TEMPERATURES:
        model.config.saliency_temperature = temperature
        weights = model.saliency(FrameFeatures(embeds=frames), text).clamp_min(1e-12)
        count = -(weights * weights.log()).sum(-1)[right]
        print(f"  weights, temperature {temperature:g}: {count.exp().mean():.1f} frames count, {measure(frames):.1%}")
    model.config.interaction = "mean"
    draw = torch.rand(frames.shape[:2], generator=torch.Generator().manual_seed(0)).argsort(1).to(model.device)
    for kept in (1, 2, 4, 8, 16)[: frames.shape[1].bit_length()]:
        chosen = frames.take_along_dim(draw[:, :kept, None].sort(1).values, 1)
        print(f"  mean of {kept} frames drawn at random: {measure(chosen):.1%}")


if __name__ == "__main__":
    main()
