import errno

import pytest

from kinoclip.whole_files import whole_file, write_whole


def write_half(path):
    path.write_text("half of the n")
    raise OSError(errno.ENOSPC, "full")


def test_a_file_is_replaced(tmp_path):
    place = tmp_path / "report.json"
    place.write_text("old")
    assert write_whole(place, "ü\n") == place
    assert place.read_bytes() == b"\xc3\xbc\n"
    assert list(tmp_path.iterdir()) == [place]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    place = tmp_path / "report.json"
    place.write_text("old")
    with pytest.raises(OSError, match="full"), whole_file(place) as partial:
        write_half(partial)
    assert place.read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    (tmp_path / ".report.json.partial").write_text("half of something that was longer")
    write_whole(tmp_path / "report.json", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]
