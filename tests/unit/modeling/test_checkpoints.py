"""Files of all kinds: whole, damaged, hostile, and of another model."""

import contextlib
import pickle
from pathlib import Path

import pytest
import torch
from chaos.models import inflate
from openai_layout import to_module, to_openai
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from kinoclip import BikeConfig, BikeModel
from kinoclip.modeling.checkpoints import (
    clip_to_transformers,
    infer_clip_config,
    load_strictly,
    read_checkpoint,
    strip_prefix,
)

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1, 2])}


class Payload:
    """What a hostile file does when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def _write(path, kind, state=STATE):
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "archive":
        torch.jit.save(torch.jit.script(to_module(state)), path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.pt", "plain"),
        ("a.pth", "legacy"),
        ("a.safetensors", "safetensors"),
        ("a.pt", "archive"),
        ("a.bin", "plain"),
    ],
)
def test_every_kind_of_file_gives_its_tensors(tmp_path, name, kind):
    state = {"weight": torch.arange(6.0).reshape(2, 3), "block.bias": torch.ones(2, dtype=torch.float16)}
    found = read_checkpoint(_write(tmp_path / name, kind, state))
    torch.testing.assert_close(found, state, atol=0, rtol=0)


@pytest.mark.parametrize("protocol", ["zip", "legacy", "bare"])
def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path, protocol):
    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    content = {"weight": Payload(trace)}
    if protocol == "bare":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=protocol == "zip")
    with pytest.raises(ValueError, match="None of its code was run"):
        read_checkpoint(path)
    assert not trace.exists()


class Writer(nn.Module):
    """A module whose loading runs code that writes a file."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        torch.save(torch.ones(1), state[0])


def test_a_hostile_archive_does_not_run(tmp_path):
    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    torch.jit.save(torch.jit.script(Writer(str(trace))), path)
    trace.unlink(missing_ok=True)
    with contextlib.suppress(ValueError):
        read_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 1, 9, 0.5, 0.95])
@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.pt", "plain"), ("a.pth", "legacy"), ("a.safetensors", "safetensors"), ("a.pt", "archive")],
)
def test_a_truncated_file_is_refused_in_one_clear_line(tmp_path, name, kind, kept):
    path = _write(tmp_path / name, kind, {"weight": torch.randn(50, 50)})
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(ValueError, match=f"{name}.*") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "model.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\n")
    with pytest.raises(ValueError, match=r"model\.pt could not be read as a checkpoint"):
        read_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [torch.ones(3), [torch.ones(3)], 7])
def test_a_file_of_something_else_than_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="must hold named tensors"):
        read_checkpoint(tmp_path / "model.pt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt does not exist"):
        read_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("kind", ["plain", "archive"])
@pytest.mark.parametrize("what", ["compressed tensors", "a member of zeros"])
def test_an_archive_that_takes_more_memory_than_disk_is_refused(tmp_path, kind, what):
    inflate(tmp_path / "b.pt", _write(tmp_path / "a.pt", kind, {"weight": torch.ones(600)}), what)
    assert (tmp_path / "b.pt").stat().st_size < 5_000_000
    with pytest.raises(ValueError, match=r"b\.pt holds \d+ bytes in a file of \d+"):
        read_checkpoint(tmp_path / "b.pt")


def test_an_archive_of_too_many_members_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kinoclip.modeling.checkpoints._MAX_MEMBERS", 3)
    with pytest.raises(ValueError, match="at most 3 members"):
        read_checkpoint(_write(tmp_path / "a.pt", "plain"))


def test_many_tensors_of_one_storage_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("kinoclip.modeling.checkpoints._MAX_INFLATED_BYTES", 20_000)
    whole = torch.ones(100_000)
    _write(tmp_path / "few.pt", "archive", {f"weight_{i}": whole for i in range(3)})
    assert len(read_checkpoint(tmp_path / "few.pt")) == 3
    _write(tmp_path / "many.pt", "archive", {f"weight_{i}": whole for i in range(9)})
    with pytest.raises(ValueError, match="its tensors are larger than the file"):
        read_checkpoint(tmp_path / "many.pt")


def test_a_prefix_is_taken_out_wherever_it_stands():
    assert list(strip_prefix({"module.visual.module.proj": torch.ones(1)})) == ["visual.proj"]


@pytest.fixture
def clip(tiny_fields):
    torch.manual_seed(0)
    towers = {name: tiny_fields[name] for name in ("text_config", "vision_config", "projection_dim")}
    return CLIPModel(CLIPConfig(**towers)).eval()


def test_the_names_of_openai_are_turned_into_those_of_transformers(clip):
    found = clip_to_transformers(to_openai(clip.state_dict()))
    torch.testing.assert_close(found, clip.state_dict(), atol=0, rtol=0)


def test_the_sizes_of_a_clip_are_read_off_its_tensors(clip):
    found = infer_clip_config(to_openai(clip.state_dict()))
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "projection_dim")
    assert {s: getattr(found.text_config, s) for s in sizes} == {s: getattr(clip.config.text_config, s) for s in sizes}
    sizes = (*sizes, "image_size", "patch_size")
    expected = {s: getattr(clip.config.vision_config, s) for s in sizes}
    assert {s: getattr(found.vision_config, s) for s in sizes} == expected
    vocabulary = clip.config.text_config.vocab_size
    assert (found.text_config.vocab_size, found.text_config.eos_token_id) == (vocabulary, vocabulary - 1)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"visual.layer1.0.conv1.weight": torch.ones(1)}, "is a ResNet CLIP"),
        ({"weight": torch.ones(1)}, "is not a CLIP in OpenAI's layout"),
        ({}, "is not a CLIP in OpenAI's layout"),
    ],
)
def test_another_model_than_a_vit_clip_is_named_as_what_it_is(state, message):
    with pytest.raises(ValueError, match=f"{message}.*A ViT CLIP is needed"):
        infer_clip_config(state)


@pytest.fixture
def strict(tiny_bike):
    def load(change):
        state = {name: tensor.clone() for name, tensor in tiny_bike.state_dict().items()}
        change(state)
        return load_strictly(BikeModel, BikeConfig(**tiny_bike.config.to_dict()), state, "file.pt")

    return load


def test_weights_that_fit_are_loaded_bit_for_bit(strict, tiny_bike):
    loaded = strict(lambda state: None)
    torch.testing.assert_close(loaded.state_dict(), tiny_bike.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("logit_scale"), "1 missing, first logit_scale"),
        (lambda state: state.update(extra=torch.ones(1)), "1 unexpected, first extra"),
        (lambda state: state.update(logit_scale=torch.ones(1)), "1 of another shape, first logit_scale"),
        (
            lambda state: state.update(extra=state.pop("logit_scale")) or state.pop("text_projection.weight"),
            "2 missing, first logit_scale; 1 unexpected, first extra",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(strict, change, message):
    with pytest.raises(ValueError, match=rf"file\.pt do not fit BikeModel: {message}"):
        strict(change)
