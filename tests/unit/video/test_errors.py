from kinoclip.video.errors import error_line


def test_an_error_becomes_one_line():
    assert error_line(ValueError("two\n  lines")) == "two lines"
    assert error_line(FileNotFoundError(2, "No such file or directory", "x.mp4")) == "No such file or directory: x.mp4"
