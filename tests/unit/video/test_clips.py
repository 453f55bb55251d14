"""Awkward videos on disk against the manifest that says what must come out.

`tests/clips` is part of the repository; `--clips DIR` adds the folders `nasty` and `real` of a larger collection.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kinoclip.video import VideoDecodeError, VideoReader, VideoRefusedError

OWN = Path(__file__).parents[2] / "clips"
BARCODE_OFFSETS = {"starts_mid_gop.ts": 40}
# Their second half starts to count again.
RESTARTED = {"ts_concat_discontinuity.ts": 50, "res_change.ts": 50}


def read_manifest(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    entries = content if isinstance(content, list) else content["files"]
    return [(folder, entry if "expected" in entry else expect_all_frames(entry)) for entry in entries]


def expect_all_frames(entry: dict[str, Any]) -> dict[str, Any]:
    stream = entry["streams"][entry["best_video_stream_ffmpeg"]]
    expected = {"n_frames": stream["nb_frames_decoded"], "size": stream["frame_sizes"][0]}
    return {"file": entry["file"], "expected": "ok", "fps": float(stream["avg_rate"]), **expected}


def has_numbers(entry: dict[str, Any]) -> bool:
    name = entry["file"]
    return "barcode_first" in entry or name in BARCODE_OFFSETS | RESTARTED or name.startswith("long_10000")


def of_outcome(*outcomes: str, where: Callable[[dict[str, Any]], bool] = bool) -> Callable[..., Any]:
    """Run a test on the clips that the manifest expects one of these outcomes of."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        test.wants = lambda entry: entry["expected"] in outcomes and where(entry)
        return test

    return mark


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "entry" not in metafunc.fixturenames:
        return
    entries = read_manifest(OWN)
    given = metafunc.config.getoption("--clips", default=None)
    for name in ("nasty", "real") if given else ():
        if (Path(given) / name / "manifest.json").exists():
            entries += read_manifest(Path(given) / name)
    chosen = [(folder, entry) for folder, entry in entries if metafunc.function.wants(entry)]
    metafunc.parametrize(
        ("folder", "entry"), chosen, ids=[f"{folder.name}-{entry['file']}" for folder, entry in chosen]
    )


@pytest.fixture
def path(folder: Path, entry: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The clip; a copy of another is made under its name and given relative to the working directory."""
    if "copy_of" not in entry:
        return folder / entry["file"]
    shutil.copy(folder / entry["copy_of"], tmp_path / entry["file"])
    monkeypatch.chdir(tmp_path)
    return Path(entry["file"])


def numbers_of(frames: torch.Tensor, rotation: int, block: float) -> list[int]:
    frames = torch.rot90(frames, -rotation // 90, (2, 3))
    rows = frames[:, :, 1:3].float().mean((1, 2))
    return [sum(int(row[int((bit + 0.5) * block)] > 127) << bit for bit in range(14)) for row in rows]


@of_outcome("ok", "partial")
def test_a_clip_has_the_frames_and_the_size_that_the_manifest_says(path, entry, each_way):
    with VideoReader(path) as reader:
        low, high = entry.get("n_frames_range", [entry.get("n_frames")] * 2)
        assert low <= reader.num_frames <= high
        assert [reader.width, reader.height] == entry["size"]
        assert reader.frames([0, reader.num_frames - 1]).shape == (2, 3, reader.height, reader.width)


@of_outcome("ok", "partial")
def test_frames_at_random_are_those_of_a_full_read(path, entry, each_way):
    with VideoReader(path) as reader:
        asked = random.Random(entry["file"]).choices(range(min(reader.num_frames, 300)), k=8)
        everything = list(reader.iterate(range(max(asked) + 1)))
        assert torch.equal(reader.frames(asked), torch.stack([everything[index] for index in asked]))


@of_outcome("ok", "partial", where=has_numbers)
@pytest.mark.parametrize("seed", range(3))
def test_frames_at_random_carry_their_numbers(path, entry, each_way, seed):
    name = entry["file"]
    with VideoReader(path) as reader:
        asked = random.Random(seed).choices(range(reader.num_frames), k=10)
        asked = [index for index in asked if index < RESTARTED.get(name, reader.num_frames)]
        coded_width = reader.height if reader.rotation in (90, 270) else reader.width
        numbers = numbers_of(reader.frames(asked), reader.rotation, coded_width // 14)
    assert numbers == [index + BARCODE_OFFSETS.get(name, 0) for index in asked]


@of_outcome("ok", where=lambda entry: "fps" in entry)
def test_the_frame_rate_is_the_one_that_ffmpeg_measures(path, entry):
    with VideoReader(path) as reader:
        assert reader.fps == pytest.approx(entry["fps"], rel=1e-3)


@of_outcome("error", "policy")
@pytest.mark.parametrize("wrap", [os.fspath, lambda path: Path(path).read_bytes()], ids=["path", "bytes"])
def test_a_clip_that_cannot_be_read_is_a_decode_error_of_one_line(path, entry, wrap):
    with pytest.raises(VideoDecodeError) as caught:
        VideoReader(wrap(path))
    assert "\n" not in str(caught.value)


@of_outcome("refused")
@pytest.mark.parametrize("wrap", [os.fspath, lambda path: Path(path).read_bytes()], ids=["path", "bytes"])
def test_a_clip_that_is_no_video_is_refused(path, entry, wrap):
    with pytest.raises(VideoRefusedError):
        VideoReader(wrap(path))
