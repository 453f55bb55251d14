"""Image files of strangers: no plug-in, program or exception beyond what a frame needs."""

import os
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinoclip.video import VideoDecodeError, VideoReader, VideoRefusedError, VideoTimeoutError, time_limit
from kinoclip.video._session import Session
from kinoclip.video.pictures import IMAGE_SUFFIXES

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
ERRORS = [
    *(NotImplementedError, IndexError, RuntimeError, AttributeError, KeyError, TypeError, ZeroDivisionError),
    *(MemoryError, OverflowError, RecursionError, EOFError, AssertionError, struct.error, SyntaxError, OSError),
]


def encoded(kind: str, **options) -> bytes:
    out = BytesIO()
    Image.new("RGB", (16, 8), (200, 0, 0)).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_a_postscript_file_named_as_an_image_starts_no_program(tmp_path, monkeypatch, suffix):
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / f"1{suffix}").write_bytes(EPS)
    with pytest.raises(VideoDecodeError, match="the image cannot be read"):
        VideoReader(tmp_path / "frames")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_frame_may_have_the_suffix_of_another_kind(tmp_path, kind, suffix):
    (tmp_path / f"1{suffix}").write_bytes(encoded(kind))
    with VideoReader(tmp_path) as reader:
        assert abs(reader.frames([0])[0, :, 4, 8].int() - torch.tensor([200, 0, 0])).max() < 10


@pytest.mark.parametrize("kind", ["GIF", "ICO", "TGA", "DDS", "SGI", "PCX", "IM", "SPIDER", "JPEG2000", "XBM", "EPS"])
def test_every_other_format_of_pillow_is_refused(tmp_path, kind):
    out = BytesIO()
    modes = {"SPIDER": "F", "XBM": "1", "GIF": "P"}
    Image.new("RGB", (16, 8), "red").convert(modes.get(kind, "RGB")).save(out, kind)
    (tmp_path / "1.png").write_bytes(out.getvalue())
    with pytest.raises(VideoDecodeError, match="the image cannot be read"):
        VideoReader(tmp_path)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("decoder", ["Pillow", "a lazy image of Pillow", "FFmpeg when opening", "FFmpeg when reading"])
def test_every_exception_of_a_decoder_is_a_decode_error_of_one_line(h264, tmp_path, monkeypatch, decoder, error):
    def fail(*args, **kwargs):
        raise error("two\nlines")

    (tmp_path / "1.png").write_bytes(encoded("PNG"))
    source = tmp_path if decoder == "Pillow" else h264
    if decoder == "Pillow":
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    elif decoder == "a lazy image of Pillow":
        source = [Image.open(tmp_path / "1.png")]
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    elif decoder == "FFmpeg when opening":
        monkeypatch.setattr("av.open", fail)
    with pytest.raises(VideoDecodeError) as caught:  # noqa: PT012, opening alone succeeds in the last case
        reader = VideoReader(source)
        monkeypatch.setattr(Session, "decode", fail)
        reader.frames([40])
    assert "\n" not in str(caught.value)


def test_ctrl_c_in_a_decoder_is_not_swallowed(tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    (tmp_path / "1.png").write_bytes(encoded("PNG"))
    monkeypatch.setattr("PIL.Image.open", stop)
    with pytest.raises(KeyboardInterrupt):
        VideoReader(tmp_path)


def test_an_error_of_the_callers_transform_stays_what_it_is(h264):
    with VideoReader(h264) as reader, pytest.raises(KeyError):
        reader.frames([0], transform=lambda frame: {}[0])


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_for_the_frames_is_a_decode_error(h264, monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr("kinoclip.video.reader._empty", fail)
    with VideoReader(h264) as reader, pytest.raises(VideoDecodeError, match="too little memory for 2 frames of 112"):
        reader.frames([0, 1])


def test_a_pipe_among_the_frames_is_an_error_and_does_not_block(tmp_path):
    (tmp_path / "1.png").write_bytes(encoded("PNG"))
    os.mkfifo(tmp_path / "2.png")
    with VideoReader(tmp_path) as reader, pytest.raises(VideoRefusedError, match=r"2\.png: not a regular file"):
        reader.frames([1])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_a_decode_error(tmp_path):
    tmp_path.chmod(0)
    try:
        with pytest.raises(VideoDecodeError, match="the folder cannot be read"):
            VideoReader(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_time_limit_holds_between_the_images_of_a_folder(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encoded("PNG"))
    with VideoReader(tmp_path) as reader, pytest.raises(VideoTimeoutError), time_limit(1e-9):
        reader.frames([0, 1, 2])


@pytest.mark.parametrize("make", [Path, lambda path: path.read_bytes()], ids=["path", "bytes"])
def test_an_animated_png_is_a_video_with_the_times_of_its_frames(tmp_path, paint, read_numbers, make):
    first, *others = (Image.fromarray(paint(number)) for number in range(6))
    durations = [100, 100, 100, 40, 40, 40]  # milliseconds
    first.save(tmp_path / "a.png", save_all=True, append_images=others, duration=durations)
    with VideoReader(make(tmp_path / "a.png")) as reader:
        assert read_numbers(reader.iterate()) == list(range(6))
        assert read_numbers(reader.frames([4, 1])) == [4, 1]
        assert reader.timestamps(range(6)) == pytest.approx([0, 0.1, 0.2, 0.3, 0.34, 0.38])


def test_an_animated_png_in_a_folder_is_one_frame(tmp_path):
    (tmp_path / "1.png").write_bytes(encoded("PNG", save_all=True, append_images=[Image.new("RGB", (16, 8))]))
    with VideoReader(tmp_path) as reader:
        assert np.array_equal(reader.frames([0])[0, :, 0, 0], [200, 0, 0])
