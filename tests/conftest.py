"""Options and small models that every kind of test uses."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest
import torch
from openai_layout import to_openai

from kinoclip import BikeConfig, BikeModel, BikeProcessor
from kinoclip.data.kinoshapes import kinoshapes_clips, write_video
from kinoclip.data.mini_clip import build_tokenizer
from kinoclip.embedded import mini_clip_path

torch.set_num_threads(1)

TOWERS = {
    "text_config": {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "projection_dim": 32,
    },
    "vision_config": {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "projection_dim": 32,
        "image_size": 32,
        "patch_size": 16,
    },
    "projection_dim": 32,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--clips", default=None, help="folder of awkward and real clips with manifests")
    parser.addoption("--goldens", default=None, help="folder of tensors recorded from the official code")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, since each file stays in one process (`--dist loadscope`)."""
    longest = ("test_readme.py", "test_resuming.py", "test_processes.py")
    items.sort(key=lambda item: item.path.name not in longest)


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="session")
def tiny_fields(tokenizer) -> dict:
    """Config fields of a CLIP of random weights that reads the small vocabulary."""
    ids = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": 0,
    }
    return {**TOWERS, "text_config": {**TOWERS["text_config"], **ids}, "num_frames": 4, "temporal_layers": 2}


@pytest.fixture
def tiny_bike(tiny_fields) -> BikeModel:
    torch.manual_seed(0)
    return BikeModel(BikeConfig(**tiny_fields)).eval()


@pytest.fixture(scope="session")
def bike_processor(tiny_fields, tokenizer) -> BikeProcessor:
    return BikeProcessor.for_config(BikeConfig(**tiny_fields), tokenizer)


@pytest.fixture
def bike_folder(tiny_bike, bike_processor, tmp_path) -> Path:
    """A published folder of a tiny BIKE without candidates of its own."""
    folder = tmp_path / "bike"
    tiny_bike.save_pretrained(folder)
    bike_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_folder() -> Path:
    """A plain CLIP checkpoint in the Transformers layout."""
    return mini_clip_path()


@pytest.fixture(scope="session")
def video_path(tmp_path_factory) -> Path:
    """A clip of KinoShapes, 16 frames at 8 per second."""
    clip = next(iter(kinoshapes_clips(1, seed=3, split="test")))
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", clip.frames, clip.spec.fps)


@pytest.fixture(scope="session")
def as_openai():
    """The function that names the weights of a `CLIPModel` as OpenAI does."""
    return to_openai
