"""How well SLLM restores the frames that it leaves out, and what recognition would gain from the real ones.

python examples/kinofigures/restoration.py RUN [RUN ...] [--clips 40]: folders of trained SLLM rows below DIR/runs of `kinoclip reproduce
kinofigures --output DIR`, and validation clips per class. A line is what stands for the frames left out, its mean cosine with their
features, and the accuracy of the trained model with it.
"""

import argparse

import torch
from torch.nn.functional import cosine_similarity
from torch.utils.data import DataLoader

from kinoclip.data import load_videos
from kinoclip.data.samples import ReadableSamples, VideoSamples, class_names, collate_readable
from kinoclip.inference.backends import load_recognizer
from kinoclip.methods.candidates import encode_candidates
from kinoclip.modeling.outputs import FrameFeatures
from kinoclip.modeling.video_processing import frame_inputs


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--clips", type=int, default=40, help="validation clips per class")
    options = parser.parse_args(arguments)
    dataset = load_videos(f"kinofigures/actions:1:{options.clips}", split="validation")
    truth = torch.tensor(dataset["label"])
    for run in options.runs:
        model, processor = load_recognizer(run, dtype="float32")
        text = encode_candidates(model.eval(), processor, class_names(dataset))
        samples = ReadableSamples(VideoSamples(dataset, processor.video_processor, discarded=True))
        encoded = []
        for batch in DataLoader(samples, 16, collate_fn=collate_readable):
            others = batch["discarded_pixel_values"].to(model.device)
            encoded.append(model.encode_fixed(**frame_inputs(batch, model.device), discarded_pixel_values=others))
        kept = torch.cat([frames.kept for frames in encoded])
        left_out = torch.cat([frames.discarded for frames in encoded])
        complete = model.complete_frames(FrameFeatures(kept=kept, discarded=left_out))
        restored, real = model.restoration_pairs(complete, None)
        start, end = kept[:, :-1, None].expand_as(real), kept[:, 1:, None].expand_as(real)
        shares = torch.arange(1, real.shape[2] + 1).to(real) / (real.shape[2] + 1)
        between = torch.lerp(start, end, shares[:, None])
        print(f"{run}\n{'':14}{'cosine':>10}{'accuracy':>10}")
        for name, gaps in (("restored", restored), ("interpolated", between), ("copied", start), ("real", real)):
            frames = torch.cat([torch.cat([kept[:, :-1, None], gaps], 2).flatten(1, 2), kept[:, -1:]], 1)
            parts = [model(frame_features=FrameFeatures(embeds=part), text_features=text) for part in frames.split(64)]
            right = torch.cat([part.logits for part in parts]).argmax(1) == truth.to(model.device)
            cosine = cosine_similarity(gaps, real, dim=-1).mean()
            print(f"{name:14}{cosine:10.3f}{right.float().mean():10.1%}")


if __name__ == "__main__":
    main()
