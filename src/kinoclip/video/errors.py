"""Errors of reading a video, and the boundary around decoders."""

from collections.abc import Iterator
from contextlib import contextmanager

_MAX_ERROR_LENGTH = 1000


class VideoDecodeError(ValueError):
    """The video cannot be read."""


class VideoRefusedError(VideoDecodeError):
    """The source is not a video, or would make FFmpeg open something else; nothing of it was decoded."""


class SourceError(Exception):
    """The bytes of a video cannot be read from its store, though the video may be intact; `decoding` raises the cause."""


class VideoTimeoutError(VideoDecodeError):
    """Reading the video takes longer than allowed."""


@contextmanager
def decoding(name: str, failure: str = "it cannot be decoded", advice: str = "Re-encode it.") -> Iterator[None]:
    """Turn every exception of a decoder, lack of memory included, into a `VideoDecodeError` of one line.

    All code of others that reads untrusted bytes runs inside such a block: FFmpeg, Pillow and the HTTP client.

    Args:
        name: of the video.
        failure: what failed.
        advice: what to do.
    """
    try:
        yield
    except VideoDecodeError:
        raise
    except SourceError as error:
        raise error.__cause__ or error from None
    except Exception as error:
        raise VideoDecodeError(f"{name}: {failure} ({describe(error)}). {advice}") from error


def describe(error: Exception) -> str:
    """Return an error's message in one line of at most 300 characters, or its type if it has none."""
    if is_out_of_memory(error):
        return "too little memory"
    return " ".join(str(error).split())[:300] or type(error).__name__


def is_out_of_memory(error: Exception) -> bool:
    """Check for lack of memory, which torch reports as a `RuntimeError`."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error))


def error_line(error: BaseException) -> str:
    """Format an error as one line of at most about 1,000 characters."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    line = " ".join(str(error).split()) or type(error).__name__
    half = _MAX_ERROR_LENGTH // 2
    return line if len(line) <= _MAX_ERROR_LENGTH else f"{line[:half]} ... {line[-half:]}"
