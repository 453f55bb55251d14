"""What can be wrong with a video."""


class VideoDecodeError(ValueError):
    """A video that cannot be read. The message names it, says what is wrong and what to do."""


class VideoRefusedError(VideoDecodeError):
    """What was given is no video, or would make the reader open something else; nothing of it was decoded."""


class VideoTimeoutError(VideoDecodeError):
    """A video that takes longer to read than was allowed."""
