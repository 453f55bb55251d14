"""Parts of the benchmark that need no video: towers, text, saliency, a step of training."""

import statistics
from collections.abc import Iterator
from functools import partial

import torch
from measuring import describe_machine, ratio, take_turns
from torch import nn
from torch.nn.functional import cross_entropy, linear, normalize
from torch.overrides import TorchFunctionMode
from towers import (
    BACKENDS,
    OPEN_CLIP,
    authors_saliency,
    auto_dtype,
    build_kinoclip,
    build_open_clip,
    exports,
    unless_missing,
    vision_towers,
)

from kinoclip.inference.encoding import encode_on_cores
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures
from kinoclip.text.labels import label_set

NUM_FRAMES, NUM_CLASSES, SIZE = 8, 400, 224
# end of the name of a peer that computes as `dtype="auto"` does
HALF = ", bfloat16"


def dtypes(clip: str, device: str) -> dict[str, torch.dtype]:
    """Return float32 under the name "", and under ", bfloat16" what `dtype="auto"` is, if it is another."""
    auto = auto_dtype(clip, device)
    return {"": torch.float32} | ({HALF: auto} if auto != torch.float32 else {})


def compare(case: dict, jobs: dict, options, cases: int, factor: float = 1) -> dict:
    """Return one row: milliseconds of kinoclip, how many times longer each other takes, and the same for its other variants.

    Args:
        case: what is measured.
        jobs: all variants of kinoclip and its peers, which take turns; peers in bfloat16 are not compared with float32.
        options: have the most rounds, and the seconds of the part.
        cases: of the part, which share its seconds.
        factor: of the rounds.
    """
    times = take_turns(jobs, max(1, int(factor * options.rounds)), options.seconds / cases)
    ours = {name: times.pop(name) for name in ("kinoclip", "auto", "compile", *BACKENDS) if name in times}
    rows = {
        name: {
            "ms": round(1000 * statistics.median(own), 1),
            "ratios": {o: ratio(t, own) for o, t in times.items() if name != "kinoclip" or not o.endswith(HALF)},
        }
        for name, own in ours.items()
    }
    return {**case, **rows.pop("kinoclip"), **({"backends": rows} if rows else {})}


@torch.inference_mode()
def measure_tower(options, device: str = "cpu") -> Iterator[dict]:
    """8 frames of 224 x 224 to embeddings, one video at a time; on a GPU eight, for each CLIP."""
    clips = [options.clip] if device == "cpu" else list(OPEN_CLIP)
    for clip in clips:
        jobs = {}
        for half, dtype in dtypes(clip, device).items():
            pixels = torch.randn(1 if device == "cpu" else 8, NUM_FRAMES, 3, SIZE, SIZE).to(device, dtype)
            towers = vision_towers(clip, device, dtype)
            if half:
                towers = {"auto" if name == "kinoclip" else name + half: tower for name, tower in towers.items()}
                towers |= {"compile": compiled} if (compiled := towers.pop("compile" + half, None)) else {}
            jobs |= {name: partial(tower, pixels) for name, tower in towers.items()}
        if device == "cpu":
            graphs = exports(build_kinoclip(clip, temporal_head="none"), ["frames"], options.backends)
            jobs |= {name: partial(each.encode_frames, pixels.float()) for name, each in graphs.items()}
        yield compare({"case": clip}, jobs, options, len(clips), 3)


class RecordProducts(TorchFunctionMode):
    """Keeps every product of a model with weights, as a function that computes it again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[partial] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (linear, torch.conv2d):
            self.calls.append(partial(function, *args, **(kwargs or {})))
        return function(*args, **(kwargs or {}))


@torch.inference_mode()
def measure_matrix(options) -> Iterator[dict]:
    """The tower beside its own products with weights alone: the share of the machine's matrix speed that it keeps."""
    has_bf16 = {"AVX-512 bf16", "AMX"} & set(describe_machine()["instructions"])
    precisions = [torch.float32, *([torch.bfloat16] if has_bf16 else [])]
    cases = [(clip, dtype) for clip in (options.clip, "vitl14") for dtype in precisions]
    for clip, dtype in cases:
        model = build_kinoclip(clip, temporal_head="none").to(dtype)
        pixels = torch.randn(1, NUM_FRAMES, 3, SIZE, SIZE, dtype=dtype)
        with RecordProducts() as products:
            model.encode_frames(pixels)
        jobs = {
            "kinoclip": partial(encode_on_cores, model, pixels),
            "products alone": lambda products=products: [call() for call in products.calls],
        }
        row = compare({"case": f"{clip} {str(dtype).removeprefix('torch.')}"}, jobs, options, len(cases))
        yield {**row, "share_of_matrix_speed": row["ratios"].pop("products alone")}


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
        yield compare({"case": f"{len(prompts)} prompts, {case}"}, jobs, options, 2, 0.5)


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
    row = compare({"case": f"saliency over {NUM_CLASSES} labels"}, jobs, options, 1, 3)
    yield {**row, "share_of_tower": round(1 / row["ratios"].pop("tower"), 4)}


def measure_training(options, device: str = "cpu") -> Iterator[dict]:
    """Forward, backward and AdamW over 8 videos of 8 frames; kinoclip beside the same on OpenAI's modules."""
    labels = torch.arange(8, device=device)
    clips = [options.clip] if device == "cpu" else list(OPEN_CLIP)
    for clip, dtype in [(name, dtype) for name in clips for dtype in dtypes(name, device).values()]:
        model = build_kinoclip(clip, method="text4vis", temporal_head="none").to(device).train()
        text = torch.randn(1, NUM_CLASSES, model.config.projection_dim, device=device)
        ours = partial(model, text_features=TextFeatures(embeds=text))
        jobs = {"kinoclip": Step(model, lambda x, ours=ours: ours(x).logits, labels, dtype)}
        peer = unless_missing("open_clip", lambda clip=clip: build_open_clip(clip))
        if peer is not None:

            def score(x: torch.Tensor, m=peer, text=text) -> torch.Tensor:
                frames = m.encode_image(x.flatten(0, 1)).unflatten(0, x.shape[:2])
                return 100 * normalize(frames.mean(1), dim=-1) @ normalize(text[0], dim=-1).T

            jobs["authors' way"] = Step(peer.to(device).train(), score, labels, dtype)
        case = {"case": f"{clip}, 8 videos, {str(dtype).removeprefix('torch.')}"}
        yield compare(case, jobs, options, len(clips) * len(dtypes(clip, device)), 0.5)


class Step:
    """One optimizer step over the vision tower."""

    def __init__(self, model: nn.Module, score, labels: torch.Tensor, dtype: torch.dtype):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("vis" in name)
        self.score, self.labels, self.dtype = score, labels, dtype
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-6)
        self.pixels = torch.randn(len(labels), NUM_FRAMES, 3, SIZE, SIZE, device=labels.device)

    def __call__(self) -> None:
        half = torch.autocast(self.labels.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with half:
            loss = cross_entropy(self.score(self.pixels), self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
