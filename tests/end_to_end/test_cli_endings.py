"""How commands end: by signals, on a full disk, on outputs of other jobs, and by errors of the program."""

import errno
import signal
import subprocess

import pytest
from clip_files import write_clips
from safetensors import SafetensorError

from kinoclip.cli import main
from kinoclip.kinoshapes import kinoshapes_clips
from kinoclip.storage import OutputLock


@pytest.fixture
def ending(monkeypatch, capsys):
    """A function that runs a command whose work calls a function, and returns its exit code and last line."""

    def run(work):
        monkeypatch.setattr("kinoclip.hub.publish.publish", work)
        code = main(["publish", ".", "org/name"])
        return code, capsys.readouterr().err.splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_a_command_with_one_line(number, code, said, ending):
    message = f"kinoclip: {said}; all records and files are complete, and the same command continues"
    assert ending(lambda *_, **__: signal.raise_signal(number)) == (code, message)

    def convert_to_another_error(*_, **__):  # as C code does
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise TypeError("could not determine the shape of object type 'torch.storage.UntypedStorage'") from None

    assert ending(convert_to_another_error) == (code, message)


def raise_error(error):
    def work(*_, **__):
        raise error

    return work


def test_a_library_of_an_extra_that_is_missing_is_named_with_the_extra(ending):
    error = ModuleNotFoundError("No module named 'accelerate'", name="accelerate")
    advice = "kinoclip: This command needs accelerate. Run `pip install 'kinoclip[train]'`."
    assert ending(raise_error(error)) == (1, advice)


def torch_error():
    """Return what torch raises for a file object on a full disk."""
    error = RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 4224 vs 4118")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        torch_error(),
    ],
    ids=["system", "safetensors", "torch"],
)
def test_a_full_disk_is_recognized(error, ending):
    code, line = ending(raise_error(error))
    assert code == 1
    assert line.startswith("kinoclip: the disk is full; all records and files are complete. Free space")


def test_another_error_of_safetensors_is_one_line(ending):
    assert ending(raise_error(SafetensorError("header too\nlarge"))) == (1, "kinoclip: header too large")


@pytest.fixture
def evaluate_to(tmp_path, capsys):
    """A function that evaluates on two clips and writes a report there."""
    clips = kinoshapes_clips(2, seed=4, labels=["red circle", "blue square"], num_frames=8)
    write_clips(tmp_path / "clips", clips, "{clip.label}/{number}.mp4")

    def evaluate(output):
        code = main(["evaluate", "mini", "--data", str(tmp_path / "clips"), "--output", str(output)])
        return code, capsys.readouterr()

    return evaluate


def test_a_report_of_another_job_and_a_folder_are_refused(evaluate_to, tmp_path):
    lock = OutputLock(tmp_path / "report.json")
    lock.acquire()
    code, printed = evaluate_to(tmp_path / "report.json")
    lock.release(remove=True)
    assert (code, printed.out) == (1, "")
    assert "Another job is writing to" in printed.err
    assert not (tmp_path / "report.json").exists()
    code, printed = evaluate_to(tmp_path)
    assert (code, printed.out) == (2, "")
    assert "is a folder" in printed.err


def test_a_report_that_cannot_be_written_is_printed(evaluate_to, tmp_path, monkeypatch):
    monkeypatch.setattr("kinoclip.storage.write_text", raise_error(OSError(errno.ENOSPC, "full")))
    code, printed = evaluate_to(tmp_path / "new" / "report.json")
    assert code == 1
    assert "top1" in printed.out
    assert "the disk is full" in printed.err
    assert not list((tmp_path / "new").iterdir())


def test_closed_streams_are_no_traceback(programs, video_path):
    arguments = ["kinoclip", "classify", str(video_path), "--model", "mini", "--labels", "red circle,blue star"]
    code = f"import sys; sys.argv = {arguments}; sys.stdout = None\nfrom kinoclip import cli\ncli.run()"
    done = subprocess.run(
        ["python", "-c", code], capture_output=True, text=True, timeout=60, env=programs, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("work", "ended"),
    [
        # after threads and exit handlers
        (
            "atexit.register(print, 'handler'); print('work'); "
            "threading.Thread(target=lambda: (time.sleep(0.5), print('thread'))).start(); return 3",
            (3, "work\nthread\nhandler\n", ""),
        ),
        ("raise LookupError('a bug')", (1, "", "LookupError: a bug\n")),
        ("raise SystemExit(2)", (2, "", "")),
    ],
    ids=["code", "bug", "usage"],
)
def test_the_process_ends_as_python_does(work, ended, programs):
    code = f"import atexit, threading, time\nfrom kinoclip import cli\ndef main():\n    {work}\ncli.main = main\ncli.run()"
    done = subprocess.run(
        ["python", "-c", code], capture_output=True, text=True, timeout=60, env=programs, check=False
    )
    assert (done.returncode, done.stdout) == ended[:2]
    assert done.stderr.endswith(ended[2])
