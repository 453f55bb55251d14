"""What can be given as a video."""

import os
import shutil
from io import BytesIO, StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from kinoclip.video import VideoDecodeError, VideoReader, VideoRefusedError

ODD_NAMES = [
    "colon:name.mp4",
    "-dash.mp4",
    "two  spaces.mp4",
    "new\nline.mp4",
    "100%d %03d.mp4",
    "vidéo 动作.mp4",
    "concat:a|b.mp4",
    "subfile,,start,0,end,9,,:a.mp4",
    "no_suffix",
    "picture.png",
    "quote'\"\\.mp4",
    "[glob]*?.mp4",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_only_a_name(h264, tmp_path, monkeypatch, read_numbers, name):
    shutil.copy(h264, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with VideoReader(name) as reader:
        assert read_numbers(reader.frames([7])) == [7]
        assert reader.name == name


@pytest.mark.parametrize(
    "prefix", ["file:", "subfile,,start,0,end,0,,:", "concat:", "crypto:", "data:video/mp4;base64,"]
)
def test_a_protocol_of_ffmpeg_is_taken_for_a_file_that_does_not_exist(h264, prefix):
    with pytest.raises(FileNotFoundError, match="the file does not exist"):
        VideoReader(f"{prefix}{h264}")


@pytest.mark.parametrize(
    "make",
    [
        Path,
        str,
        lambda p: Path(p).read_bytes(),
        lambda p: bytearray(Path(p).read_bytes()),
        lambda p: memoryview(Path(p).read_bytes()),
        lambda p: BytesIO(Path(p).read_bytes()),
        lambda p: Path(p).open("rb"),  # noqa: SIM115, the reader is given the open file
    ],
    ids=["path", "text", "bytes", "bytearray", "memoryview", "BytesIO", "file"],
)
def test_every_kind_of_file_gives_the_same_frames(h264, each_way, read_numbers, make):
    with VideoReader(make(h264)) as reader:
        assert reader.num_frames == 50
        assert read_numbers(reader.frames([49, 12])) == [49, 12]


def test_a_file_is_read_from_its_beginning(h264, read_numbers):
    with h264.open("rb") as file:
        file.seek(1000)
        assert read_numbers(VideoReader(file).frames([3])) == [3]


class Pipe:
    """A stream that can be read once."""

    def __init__(self, content: bytes):
        self.read = BytesIO(content).read

    def seekable(self) -> bool:
        return False


def test_a_stream_that_cannot_go_back_is_held_in_memory(h264, read_numbers):
    with VideoReader(Pipe(h264.read_bytes())) as reader:
        assert read_numbers(reader.frames([30, 3])) == [30, 3]


def test_a_stream_that_cannot_go_back_is_bounded(h264):
    with pytest.raises(VideoDecodeError, match="larger than max_bytes=1000"):
        VideoReader(Pipe(h264.read_bytes()), max_bytes=1000)


def test_a_text_file_object_is_an_error_that_says_how_to_open_it():
    with pytest.raises(TypeError, match="mode 'rb'"):
        VideoReader(StringIO("x"))


@pytest.mark.parametrize("path", ["", "missing.mp4", "missing/missing.mp4", "a\0b", "x" * 300])
def test_a_missing_file_is_a_file_not_found_error(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((FileNotFoundError, VideoDecodeError)):
        VideoReader(path)


def test_a_file_below_a_file_does_not_exist(h264):
    with pytest.raises(FileNotFoundError):
        VideoReader(h264 / "x.mp4")


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", "/dev/zero"):
        with pytest.raises(VideoRefusedError, match="not a regular file"):
            VideoReader(path)


@pytest.mark.parametrize("source", [None, 7, {"file": "x"}, {"a"}, [1, 2], ["a.mp4"]])
def test_what_cannot_hold_a_video_is_a_type_error(source):
    with pytest.raises(TypeError):
        VideoReader(source)


@pytest.fixture
def frames(paint):
    """12 frames (12, 64, 112, 3)."""
    return np.stack([paint(number) for number in range(12)])


@pytest.mark.parametrize(
    "convert",
    [
        lambda v: v,
        lambda v: v.transpose(0, 3, 1, 2),
        lambda v: v.astype(np.float32) / 255,
        torch.from_numpy,
        lambda v: torch.from_numpy(v).permute(0, 3, 1, 2),
        lambda v: torch.from_numpy(v).float() / 255,
        lambda v: torch.from_numpy(v).double().div(255).requires_grad_(),
        list,
        lambda v: [torch.from_numpy(f).permute(2, 0, 1) for f in v],
        lambda v: [Image.fromarray(f) for f in v],
        lambda v: tuple(Image.fromarray(f) for f in v),
    ],
    ids=[
        *("THWC", "TCHW", "float", "tensor", "tensor TCHW", "float tensor", "double tensor with gradient"),
        *("list of arrays", "list of tensors", "list of images", "tuple of images"),
    ],
)
def test_every_kind_of_picture_gives_the_same_frames(frames, convert):
    with VideoReader(convert(frames)) as reader:
        assert (reader.num_frames, reader.width, reader.height) == (12, 112, 64)
        got = reader.frames([5, 0]).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(got, frames[[5, 0]])


def test_where_both_axes_are_3_the_last_one_is_the_color():
    video = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    with VideoReader(video) as reader:
        assert (reader.height, reader.width) == (3, 4)


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 8, 8, 4), (4, 8, 8, 1), (2, 4, 8, 8, 3), (3,)])
def test_an_array_of_another_shape_is_an_error_that_names_the_right_ones(shape):
    with pytest.raises(ValueError, match=r"must have shape \(T, H, W, 3\) or \(T, 3, H, W\)"):
        VideoReader(np.zeros(shape, np.uint8))


def with_value(top: float) -> np.ndarray:
    video = np.zeros((2, 8, 8, 3), np.float32)
    video[1, 0, 0, 0] = top
    return video


@pytest.mark.parametrize(
    ("video", "error", "message"),
    [
        *((with_value(top), ValueError, "must be in the range 0 to 1") for top in (255.0, -0.5, np.nan, np.inf)),
        (np.zeros((2, 8, 8, 3), np.int64), TypeError, "int64"),
        *((nothing, VideoDecodeError, "at least one frame") for nothing in ([], (), np.zeros((0, 8, 8, 3), np.uint8))),
    ],
)
def test_numbers_that_are_no_frames_are_an_error(video, error, message):
    with pytest.raises(error, match=message):
        VideoReader(video)


@pytest.fixture
def folder(tmp_path, frames):
    """12 images, `img_1.png` to `img_12.png`, and things that are none."""
    path = tmp_path / "frames"
    path.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"img_{number + 1}.png")
    (path / "notes.txt").write_text("x")
    (path / ".hidden.png").write_text("x")
    (path / "more").mkdir()
    return path


def test_a_folder_of_images_is_read_in_natural_order(folder, read_numbers):
    with VideoReader(folder, fps=24) as reader:
        assert read_numbers(reader.iterate()) == list(range(12))
        assert reader.timestamps([6]) == [0.25]


def test_the_orientation_of_an_image_is_applied(tmp_path, paint):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    Image.fromarray(paint(1)).save(tmp_path / "1.jpg", exif=exif)
    with VideoReader(tmp_path) as reader:
        assert (reader.width, reader.height) == (64, 112)


def test_images_of_another_size_are_resized_to_the_first(tmp_path, paint):
    Image.fromarray(paint(1)).save(tmp_path / "1.png")
    Image.fromarray(paint(2, 224, 128)).convert("P").save(tmp_path / "2.png")
    with VideoReader(tmp_path) as reader:
        assert reader.frames([0, 1]).shape == (2, 3, 64, 112)


def test_an_empty_folder_is_refused_with_the_kinds_it_could_hold(tmp_path):
    with pytest.raises(VideoRefusedError, match=r"no images \(\.bmp, \.jpeg, \.jpg"):
        VideoReader(tmp_path)


def test_an_image_that_cannot_be_read_is_named(folder):
    (folder / "img_3.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    with VideoReader(folder) as reader, pytest.raises(VideoDecodeError, match=r"img_3\.png: the image cannot be read"):
        reader.frames([2])


def test_an_image_larger_than_max_pixels_is_an_error(folder):
    with pytest.raises(VideoDecodeError, match="max_pixels=1000"):
        VideoReader(folder, max_pixels=1000)


def test_pictures_can_be_transformed_on_the_way(frames):
    with VideoReader(frames) as reader:
        assert reader.frames([1, 2], transform=lambda frame: frame[:, :10, :20]).shape == (2, 3, 10, 20)


class Decoder:
    """The documented interface of torchcodec's `VideoDecoder`: `metadata`, `len`, `get_frames_at`."""

    def __init__(self, frames):
        self.frames = frames
        self.metadata = SimpleNamespace(average_fps=25.0, num_frames=len(frames))

    def __len__(self):
        return len(self.frames)

    def get_frames_at(self, indices):
        return SimpleNamespace(data=self.frames[indices])


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_a_decoder_of_torchcodec_is_a_video(order):
    frames = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 8, 12)
    with VideoReader(Decoder(frames if order == "NCHW" else frames.permute(0, 2, 3, 1))) as reader:
        assert (reader.num_frames, reader.width, reader.height, reader.fps) == (5, 12, 8, 25.0)
        assert torch.equal(reader.frames([4, 0, 2]), frames[[4, 0, 2]])
        assert reader.timestamps([2]) == [0.08]


@pytest.mark.parametrize("make", [lambda p: {"bytes": Path(p).read_bytes(), "path": None}, lambda p: {"path": str(p)}])
@pytest.mark.parametrize("is_decoder", [False, True])
def test_a_video_as_datasets_stores_it_is_read_as_its_file(h264, read_numbers, make, is_decoder):
    source = make(h264)
    if is_decoder:  # what `datasets.Video` decodes to remembers what it was
        source = Decoder(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
        source._hf_encoded = {"bytes": None, **make(h264)}
    with VideoReader(source) as reader:
        assert read_numbers(reader.frames([7])) == [7]


def test_a_dict_without_a_video_is_refused():
    with pytest.raises(TypeError, match="must have bytes or a path, got the keys name"):
        VideoReader({"name": "clip.mp4"})
