"""Whether training loses what the untrained CLIP knows: the answers of both, mixed.

python examples/kinofigures/forgetting.py RUN [RUN ...] [--clips 40]: folders below DIR/runs of `kinoclip reproduce kinofigures --output DIR`,
and validation clips per class. A line is the share of the trained model in the probabilities, and the accuracy on trained and on
unseen actions.
"""

import argparse

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kinoclip.data import load_videos
from kinoclip.data.samples import ReadableSamples, VideoSamples, class_names, collate_readable
from kinoclip.inference.backends import load_recognizer
from kinoclip.methods.candidates import encode_candidates
from kinoclip.modeling.video_processing import frame_inputs
from kinoclip.training.build_model import build_model
from kinoclip.training.recipe import load_recipe

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--clips", type=int, default=40, help="validation clips per class")
    options = parser.parse_args(arguments)
    data = [load_videos(f"kinofigures/{task}:1:{options.clips}", split="validation") for task in ("actions", "unseen")]
    truth = [torch.tensor(one["label"]) for one in data]
    untrained = [score(*build_model(load_recipe("kinofigures/clip"), class_names(one), "mini"), one) for one in data]
    for run in options.runs:
        print(f"{run}\n{'trained':>10}{'actions':>10}{'unseen':>10}")
        trained = [score(*load_recognizer(run, dtype="float32"), one) for one in data]
        for share in SHARES:
            mixed = [torch.lerp(*pair, share).argmax(1) for pair in zip(untrained, trained, strict=True)]
            rights = [(given == true).float().mean() for given, true in zip(mixed, truth, strict=True)]
            print(f"{share:10.0%}" + "".join(f"{right:10.1%}" for right in rights))


@torch.inference_mode()
def score(model, processor, dataset) -> Tensor:
    """Return the probability of each class for each clip, (N, K)."""
    text = encode_candidates(model.eval(), processor, class_names(dataset))
    samples = ReadableSamples(VideoSamples(dataset, processor.video_processor))
    batches = DataLoader(samples, 16, collate_fn=collate_readable)
    logits = [model(**frame_inputs(batch, model.device), text_features=text).logits for batch in batches]
    return torch.cat(logits).softmax(-1)


if __name__ == "__main__":
    main()
