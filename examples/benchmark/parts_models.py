"""Parts of the benchmark that need no video: towers, text, saliency, a step of training."""

import statistics
from collections.abc import Iterator
from functools import partial

import torch
from measuring import ratio, take_turns
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from towers import (
    BACKENDS,
    authors_saliency,
    build_kinoclip,
    build_open_clip,
    compiled_tower,
    exports,
    unless_missing,
    vision_towers,
)

from kinoclip.modeling.outputs import FrameFeatures, TextFeatures
from kinoclip.text.labels import label_set

NUM_FRAMES, NUM_CLASSES, SIZE = 8, 400, 224


def dtypes(device: str) -> list[torch.dtype]:
    """Give float32, and bfloat16 where the processor has instructions for it."""
    has_bf16 = device == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return [torch.float32, torch.bfloat16] if has_bf16 else [torch.float32]


def compare(case: dict, jobs: dict, rounds: int) -> dict:
    """Give one row: milliseconds of kinoclip, how many times longer each other takes, and the same for its other backends."""
    times = take_turns(jobs, rounds)
    ours = {name: times.pop(name) for name in ("kinoclip", "torch.compile", *BACKENDS) if name in times}
    rows = {
        name: {
            "ms": round(1000 * statistics.median(own), 1),
            "ratios": {other: ratio(t, own) for other, t in times.items()},
        }
        for name, own in ours.items()
    }
    return {**case, **rows.pop("kinoclip"), **({"backends": rows} if rows else {})}


@torch.inference_mode()
def measure_tower(options) -> Iterator[dict]:
    """8 frames of 224 x 224 to embeddings, one video at a time."""
    for dtype in dtypes(options.device):
        pixels = torch.randn(1, NUM_FRAMES, 3, SIZE, SIZE).to(options.device, dtype)
        towers = vision_towers(options.clip, options.device, dtype) | compiled_tower(options.clip, pixels)
        if options.device == "cpu" and dtype == torch.float32:
            model = build_kinoclip(options.clip, temporal_head="none")
            towers |= {name: graphs.encode_frames for name, graphs in exports(model, ["frames"]).items()}
        jobs = {name: partial(tower, pixels) for name, tower in towers.items()}
        yield compare({"case": f"{options.clip} {str(dtype).removeprefix('torch.')}"}, jobs, 3 * options.rounds)


@torch.inference_mode()
def measure_text(options) -> Iterator[dict]:
    """400 prompts: only their end is read (as most methods do), or every position (saliency)."""
    peer = unless_missing("open_clip", lambda: build_open_clip(options.clip))
    if peer is None:
        return
    prompts = make_prompts()
    for case, fields in (("ends", {"interaction": "mean"}), ("every position", {})):
        model = build_kinoclip(options.clip, **fields)
        jobs = {
            "kinoclip": partial(model.encode_text, prompts[None]),
            # at once and at full length; what it gives is the ends alone, as in the authors' code
            "authors' way": partial(peer.encode_text, prompts),
        }
        yield compare({"case": f"{len(prompts)} prompts, {case}"}, jobs, max(1, options.rounds // 2))


def make_prompts() -> torch.Tensor:
    """The classes of Kinetics-400 in BIKE's template, as CLIP's tokens."""
    import open_clip

    return open_clip.get_tokenizer("ViT-B-32")([f"This is a video about {name}" for name in label_set("kinetics400")])


@torch.inference_mode()
def measure_saliency(options) -> Iterator[dict]:
    """Frames and encoded text to scores, and what share of the tower's time that is."""
    model = build_kinoclip(options.clip, temporal_head="none")
    width = model.config.projection_dim
    frames, pixels = torch.randn(1, NUM_FRAMES, width), torch.randn(1, NUM_FRAMES, 3, SIZE, SIZE)
    words, sentences = torch.randn(NUM_CLASSES, 77, width), torch.randn(1, NUM_CLASSES, width)
    text = TextFeatures(embeds=sentences, words=words)

    def score() -> torch.Tensor:
        return model.match(model.aggregate(FrameFeatures(embeds=frames), text), text)

    torch.testing.assert_close(score(), authors_saliency(frames, words, sentences[0]), atol=1e-5, rtol=0)
    jobs = {
        "kinoclip": score,
        "as the equations stand": lambda: authors_saliency(frames, words, sentences[0]),
        "tower": lambda: model.encode_frames(pixels),
    }
    row = compare({"case": f"saliency over {NUM_CLASSES} labels"}, jobs, 3 * options.rounds)
    yield {**row, "share_of_tower": round(1 / row["ratios"].pop("tower"), 4)}


def measure_training(options) -> Iterator[dict]:
    """Forward, backward and AdamW over 8 videos of 8 frames; kinoclip beside the same on OpenAI's modules."""
    labels = torch.arange(8, device=options.device)
    text = torch.randn(1, NUM_CLASSES, 512, device=options.device)
    for dtype in dtypes(options.device):
        model = build_kinoclip("vitb32", method="text4vis", temporal_head="none").to(options.device).train()
        jobs = {
            "kinoclip": Step(model, lambda m, x: m(x, text_features=TextFeatures(embeds=text)).logits, labels, dtype)
        }
        peer = unless_missing("open_clip", lambda: build_open_clip("vitb32"))
        if peer is not None:

            def score(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
                frames = m.encode_image(x.flatten(0, 1)).unflatten(0, x.shape[:2])
                return 100 * normalize(frames.mean(1), dim=-1) @ normalize(text[0], dim=-1).T

            jobs["authors' way"] = Step(peer.to(options.device).train(), score, labels, dtype)
        case = {"case": f"8 videos, {str(dtype).removeprefix('torch.')}"}
        yield compare(case, jobs, max(1, options.rounds // 2))


class Step:
    """One optimizer step over the vision tower."""

    def __init__(self, model: nn.Module, score, labels: torch.Tensor, dtype: torch.dtype):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("vis" in name)
        self.model, self.score, self.labels, self.dtype = model, score, labels, dtype
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-6)
        self.pixels = torch.randn(len(labels), NUM_FRAMES, 3, SIZE, SIZE, device=labels.device)

    def __call__(self) -> None:
        half = torch.autocast(self.labels.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with half:
            loss = cross_entropy(self.score(self.model, self.pixels), self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
