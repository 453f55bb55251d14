"""Options and small models that every kind of test uses."""

import gzip
import importlib.util
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fork_server import Server
from openai_layout import to_openai
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from kinoclip import BikeConfig, BikeModel, BikeProcessor
from kinoclip.kinoshapes import kinoshapes_clips, write_video
from kinoclip.methods.auto import mini_clip_path

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell; tests send it to their children
    signal.signal(signal.SIGINT, signal.default_int_handler)

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
    longest = ("test_pages.py", "test_export.py", "test_resuming.py", "test_smoke.py", "test_reproduce.py")
    items.sort(key=lambda item: longest.index(item.path.name) if item.path.name in longest else len(longest))


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> Iterator[dict[str, str]]:
    """An environment in which `kinoclip` and `python` start without importing: see `fork_server`."""
    server = Server(tmp_path_factory.mktemp("programs"))
    yield server.environment
    server.close()


@pytest.fixture(scope="session")
def cli(programs) -> Callable[..., subprocess.CompletedProcess]:
    """A function that runs `kinoclip` with arguments in a process of its own and returns its code and output."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess:
        command = ["kinoclip", *map(str, arguments)]
        return subprocess.run(command, env=programs, capture_output=True, text=True, check=False, **options)

    return run


@pytest.fixture(scope="session")
def tokenizer():
    return CLIPTokenizer.from_pretrained(mini_clip_path())


@pytest.fixture(scope="session")
def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's own tokenizer, from the vocabulary that `open_clip` brings."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        pytest.skip("open_clip_torch is not installed; its file bpe_simple_vocab_16e6.txt.gz makes CLIP's tokenizer")
    merges_file = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    # 49152 entries less 2 * 256 letters and 2 specials are merges; the first line is a version.
    lines = gzip.decompress(merges_file.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = list(bytes_to_unicode().values())
    entries = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {entry: index for index, entry in enumerate(entries)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


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
