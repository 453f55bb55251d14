import errno
from pathlib import Path

import pytest
import torch

from kinoclip.storage import (
    Journal,
    OutputLock,
    atomic_file,
    atomic_folder,
    claimed,
    exclusive,
    hash_file,
    hash_tensors,
    nothing,
    write_bytes,
    write_json,
    write_text,
)


def write_half(path):
    path.write_text("half of the n")
    raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_replaced(tmp_path, shared):
    file = tmp_path / "report.json"
    file.write_text("old")
    assert write_bytes(file, b"\xc3\xbc\n", owns=claimed, shared=shared) == file
    assert file.read_bytes() == b"\xc3\xbc\n"
    assert list(tmp_path.iterdir()) == [file]


def test_json_is_indented_and_keeps_letters_of_every_language(tmp_path):
    assert write_json(tmp_path / "a.json", {"b": "红"}, owns=nothing).read_bytes() == '{\n  "b": "红"\n}\n'.encode()


@pytest.mark.parametrize("shared", [False, True])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, shared):
    file = tmp_path / "report.json"
    file.write_text("old")
    with pytest.raises(OSError, match="full"), atomic_file(file, owns=claimed, shared=shared) as temporary:
        write_half(temporary)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_process_left_is_removed_and_similar_names_are_not(tmp_path):
    file, folder = tmp_path / "report.json", tmp_path / "clips"
    with atomic_file(file, owns=nothing) as of_file:
        of_file.write_text("new")
    with atomic_folder(folder) as of_folder:
        pass
    of_file.write_text("half of something")  # as the killed process left it
    of_folder.mkdir()
    (of_folder / "a.mp4").write_text("half of something")
    mine = {".report.json.partial", ".clips.partial", ".kinoclip-mine.partial", of_file.name.replace("kino", "Kino")}
    for name in mine:
        (tmp_path / name).write_text("mine")
    write_text(file, "newer", owns=claimed)
    with atomic_folder(folder) as temporary:
        (temporary / "a.mp4").write_text("a")
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "clips", *mine}
    assert (folder / "a.mp4").read_text() == "a"


def test_a_folder_that_fails_does_not_appear(tmp_path):
    with pytest.raises(OSError, match="full"), atomic_folder(tmp_path / "clips") as temporary:
        write_half(temporary / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_written_by_one_process_at_a_time(tmp_path):
    with atomic_folder(tmp_path / "clips") as temporary:
        (temporary / "a.mp4").write_text("a")
        with pytest.raises(RuntimeError, match="Another job is writing to"), atomic_folder(tmp_path / "clips"):
            pass
    assert (tmp_path / "clips" / "a.mp4").exists()


def test_a_folder_with_content_is_refused_and_kept(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty"), atomic_folder(tmp_path / "clips"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["clips", "mine"]


def test_a_lock_is_free_again_after_its_release(tmp_path):
    first, second = OutputLock(tmp_path / "out.csv"), OutputLock(tmp_path / "out.csv")
    first.acquire()
    with pytest.raises(RuntimeError, match=r"out\.csv"):
        second.acquire()
    first.release(remove=True)
    second.acquire()
    second.release(remove=True)
    assert not list(tmp_path.iterdir())


def refuse(path, *_, **__):
    raise PermissionError(
        errno.EACCES, "The process cannot access the file because it is being used by another process", path
    )


def test_a_lock_file_that_the_system_cannot_delete_while_it_is_open_is_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "unlink", refuse)  # as on Windows
    for _ in range(2):
        with exclusive(tmp_path / "out"):
            assert (tmp_path / ".out.lock").exists()


def test_a_file_that_another_process_has_open_keeps_its_content(tmp_path, monkeypatch):
    file = tmp_path / "report.json"
    file.write_text("old")
    monkeypatch.setattr(Path, "replace", refuse)  # as on Windows
    with pytest.raises(PermissionError, match="another process"):
        write_text(file, "new", owns=claimed)
    assert [(path, path.read_text()) for path in tmp_path.iterdir()] == [(file, "old")]


def test_the_hash_of_a_folder_depends_on_names_and_content(tmp_path):
    (tmp_path / "a.png").write_text("a")
    first = hash_file(tmp_path)
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    second = hash_file(tmp_path)
    (tmp_path / "b.png").write_text("b")
    assert len({first, second, hash_file(tmp_path)}) == 3


def test_the_hash_of_tensors_depends_on_names_types_shapes_and_values():
    zeros = torch.zeros(2, 3)
    variants = [{"a": zeros}, {"b": zeros}, {"a": zeros.T}, {"a": zeros.half()}, {"a": zeros + 1}]
    assert len({hash_tensors(tensors) for tensors in variants} | {hash_tensors({"a": zeros}, "facts")}) == 6
    assert hash_tensors({"a": zeros.T}) == hash_tensors({"a": torch.zeros(3, 2)})


@pytest.mark.parametrize(
    "content",
    [
        b"notes",
        b"notes\n",
        b"[1]\n",
        b'{"a": 1}\n',
        b'{"a": 1, "b": 2}',
        b'{"a": 1, "b": 2}\nnotes\n',
        b"\xff\n",
        b"\n",
    ],
)
def test_a_journal_refuses_what_it_did_not_write(tmp_path, content):
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"out\.jsonl does not hold records of this command"):
        Journal(path, ("a", "b"))
    assert path.read_bytes() == content


def test_a_journal_is_continued_behind_its_last_whole_record(tmp_path):
    path, records = tmp_path / "out.jsonl", [{"a": number, "b": "é\udcff\u2028"} for number in range(3)]
    path.touch()
    for record in records:
        journal = Journal(path, ("a", "b"))
        journal.append(record)
        journal.close()
        with path.open("ab") as file:
            file.write(b'{"a": 5, "b')  # of a kill
    assert Journal(path, ("a", "b")).records == records
    assert [line.count(b"\n") for line in path.read_bytes().splitlines(keepends=True)] == [1, 1, 1, 0]


@pytest.mark.parametrize("place", ["file", "folder", "link"])
def test_a_file_of_somebody_else_is_refused_and_an_equal_one_is_kept(tmp_path, place):
    path = mine = tmp_path / "out.json"
    if place == "folder":
        path.mkdir()
        mine = path / "mine"
    elif place == "link":
        mine = tmp_path / "mine"
        path.symlink_to(mine)
    mine.write_text("mine")
    with pytest.raises(FileExistsError, match=r"Choose another name, or remove it first"):
        write_text(path, "new", owns=nothing)
    assert mine.read_text() == "mine"
    if place != "folder":
        state = mine.stat()
        write_text(path, "mine", owns=nothing)
        assert (mine.stat().st_ino, mine.stat().st_mtime_ns) == (state.st_ino, state.st_mtime_ns)


def test_a_lock_that_is_somebody_elses_file_is_refused(tmp_path):
    (tmp_path / ".out.csv.lock").write_text("mine")
    with pytest.raises(FileExistsError, match="is not a lock of kinoclip"):
        OutputLock(tmp_path / "out.csv").acquire()
    assert (tmp_path / ".out.csv.lock").read_text() == "mine"


def test_what_is_left_of_a_removal_is_removed_later(tmp_path, monkeypatch):
    folder = tmp_path / "clips"
    with atomic_folder(folder) as temporary:
        (temporary / "a").write_text("a")
    for _ in range(2):  # killed while it deletes the old folder, and once more while it deletes what is left
        with monkeypatch.context() as patch:
            patch.setattr("shutil.rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt), atomic_folder(folder, owns=claimed) as temporary:
                (temporary / "a").write_text("b")
    with atomic_folder(folder, owns=claimed) as temporary:
        (temporary / "a").write_text("c")
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]
