"""Check of a file's kind and first bytes, before FFmpeg or Pillow opens it.

FFmpeg opens *other* files and addresses through playlists and scripts, and reads plain text as ANSI art. Such files are refused by their
content here, and by the format whitelist `VIDEO_FORMATS` in FFmpeg.
"""

import stat
from pathlib import Path

from kinoclip.video.errors import VideoDecodeError, VideoRefusedError

HEAD_BYTES = 4096

# Demuxers that read a single file. Those of audio are included for a clear error.
VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpegtsraw,mpeg,mpegvideo,h261,h263,h264,hevc,vvc,evc,m4v,obu,av1,ivf,"
    "flv,live_flv,kux,asf,asf_o,gif,apng,ogg,yuv4mpegpipe,nut,mxf,dv,rm,wtv,vc1,vc1test,dirac,cavsvideo,avs2,avs3,dnxhd,"
    "wav,mp3,flac,aac,ac3,eac3,aiff,au,amr,caf,w64,dts,truehd,tta,wv,ape"
)

_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"8BPS", "Photoshop"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"v/1\x01", "OpenEXR"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
)
_OTHERS = (
    (b"PK\x03\x04", "a zip archive (or what is saved as one, such as a torch checkpoint)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3", "a database"),
    (b"ARROW1", "an Arrow table"),
    (b"PAR1", "a Parquet table"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)
_TEXT_KINDS = (
    (b"#EXTM3U", "an HLS playlist, which points to other files"),
    (b"ffconcat", "an ffconcat script, which points to other files"),
    (b"v=0", "an SDP session description, which points to the network"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<", "XML"),
    (b"{", "JSON or other text"),
    (b"[", "JSON or other text"),
)
_STILL_BRANDS = (b"avif", b"heic", b"heix", b"mif1")


def check_regular_file(path: Path, name: str) -> int:
    """Check that a path is a regular file, and return its size: a pipe or a device can block forever.

    Raises:
        FileNotFoundError: it does not exist.
        VideoRefusedError: a device, pipe or socket.
        VideoDecodeError: it cannot be opened.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{name}: the file does not exist.") from error
    except (OSError, ValueError) as error:
        raise VideoDecodeError(f"{name}: the file cannot be opened ({error}). Check path and permissions.") from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoRefusedError(f"{name}: not a regular file (a pipe, a socket or a device). Copy it to a file.")
    return status.st_size


def check_head(head: bytes, name: str) -> None:
    """Check that the first `HEAD_BYTES` bytes may be a video.

    Raises:
        VideoDecodeError: the file is empty or a Git LFS pointer.
        VideoRefusedError: an image, archive, playlist, script or other text.
    """
    if not head:
        raise VideoDecodeError(f"{name}: the file is empty. Copy or download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise VideoDecodeError(f"{name}: this is a Git LFS pointer, not the video. Run `git lfs pull` to fetch it.")
    image = _image_kind(head)
    if image:
        raise VideoRefusedError(
            f"{name}: this is a still image ({image}), not a video. Give a folder of images instead."
        )
    kind = _other_kind(head)
    if kind:
        raise VideoRefusedError(f"{name}: this is {kind}, not a video. Give the video file itself.")


def _image_kind(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP; animated ones cannot be decoded"
    if head.startswith(b"\x89PNG") and b"acTL" in head:  # the chunk that makes a PNG an animation
        return None
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        return head[8:12].decode().upper()
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3].isspace():
        return "PNM"
    return next((kind for magic, kind in _IMAGES if head.startswith(magic)), None)


def _other_kind(head: bytes) -> str | None:
    for magic, kind in _OTHERS:
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle"
    if head[8:10] == b'{"':
        return "a safetensors file"
    if head.startswith(b"YUV4MPEG2 ") or not _is_text(head):
        return None
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((kind for magic, kind in _TEXT_KINDS if start.startswith(magic.lower())), "text")


def _is_text(head: bytes) -> bool:
    """Return whether the bytes can be text; the head of a video has zeros."""
    control = bytes(set(range(32)) - set(b"\t\n\r\f\v\x1b\x08\x07"))
    if any(byte in control for byte in head):
        return False
    if len(head) >= 512:
        return True
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
