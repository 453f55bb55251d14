"""Tiny models of the methods, and videos for them."""

import pytest
import torch

from kinoclip import AltConfig, AltModel
from kinoclip.modeling.outputs import TextFeatures


@pytest.fixture
def make(tiny_fields):
    """Build a model of random weights with these config fields."""

    def make(model_class, **fields):
        torch.manual_seed(0)
        return model_class(model_class.config_class(**{**tiny_fields, **fields})).eval()

    return make


@pytest.fixture
def pixels():
    """Two videos of four frames."""
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def moved_by(pixels):
    """Check which frames' features change when the pixels of one frame do."""

    @torch.no_grad()
    def moved_by(model, frame=3):
        other = pixels.clone()
        other[:, frame] += 1
        change = model.encode_frames(pixels).embeds - model.encode_frames(other).embeds
        return (change.abs().amax((0, 2)) > 1e-6).tolist()

    return moved_by


# our names of the weights of a temporal transformer, and the official ones
TRANSFORMER = (
    ("position_embedding.", "frame_position_embeddings."),
    ("encoder.layers.", "transformer.resblocks."),
)


@pytest.fixture
def split_officially(as_openai):
    """Split the weights of a model into CLIP and temporal head, with the names of the official code."""

    def split(model, names=TRANSFORMER):
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        own = [name for name in state if name.startswith("temporal_head.")]
        official = as_openai({name.removeprefix("temporal_head."): state.pop(name) for name in own})
        head = {}
        for name, tensor in official.items():
            for ours, theirs in names:
                name = name.replace(ours, theirs)
            head[name] = tensor
        return as_openai(state), head

    return split


@pytest.fixture
def write(tmp_path):
    """Write an official checkpoint of CLIP and temporal head, or of CLIP alone."""

    def write(clip, head=None, name="official.pt"):
        parts = {"model_state_dict": clip, **({} if head is None else {"fusion_model_state_dict": head})}
        torch.save({"epoch": 3, **parts, "optimizer_state_dict": {}}, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def configure_alt(tiny_fields):
    """Build the config of ALT on a tower of 16 patches in two layers, two of which merge in each."""
    vision = {**tiny_fields["vision_config"], "image_size": 64}
    return lambda **fields: AltConfig(**{**tiny_fields, "vision_config": vision, "merge_r": 2, **fields})


@pytest.fixture
def build_alt(configure_alt):
    """Build ALT with `corpus` entities."""

    def build(corpus=6, **fields):
        torch.manual_seed(0)
        model = AltModel(configure_alt(**fields)).eval()
        if corpus and model.config.aligns:
            embeds = torch.randn(corpus, 32, generator=torch.Generator().manual_seed(1))
            model.set_corpus([f"entity {i}" for i in range(corpus)], embeds)
        return model

    return build


@pytest.fixture
def alt_pixels():
    return torch.randn(2, 4, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def text():
    return TextFeatures(embeds=torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(3)))


@pytest.fixture
def run_alt(build_alt, alt_pixels, text):
    @torch.no_grad()
    def recognize(model=None, **fields):
        model = build_alt(**fields) if model is None else model
        return model(alt_pixels, text_features=text)

    return recognize
