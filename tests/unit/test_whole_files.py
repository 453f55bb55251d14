import errno

import pytest

from kinoclip.whole_files import whole_file, whole_folder, write_whole


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


def test_a_folder_is_there_when_all_of_it_is(tmp_path):
    (tmp_path / ".clips.partial" / "of a killed job").mkdir(parents=True)
    with whole_folder(tmp_path / "clips") as partial:
        (partial / "a.mp4").write_text("a")
        assert not (tmp_path / "clips").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["clips", "a.mp4"]


def test_a_folder_that_cannot_be_finished_is_not_there(tmp_path):
    with pytest.raises(OSError, match="full"), whole_folder(tmp_path / "clips") as partial:
        write_half(partial / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_written_by_one_process_at_a_time(tmp_path):
    with whole_folder(tmp_path / "clips") as partial:
        (partial / "a.mp4").write_text("a")
        with pytest.raises(RuntimeError, match="Another job writes to"), whole_folder(tmp_path / "clips"):
            pass
    assert (tmp_path / "clips" / "a.mp4").exists()


def test_a_folder_that_holds_something_is_kept(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty"), whole_folder(tmp_path / "clips"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["clips", "mine"]
