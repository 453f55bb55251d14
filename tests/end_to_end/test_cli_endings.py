"""How commands end when they are stopped, when the disk is full, and when another one writes to their output."""

import errno
import signal
import subprocess
import sys

import pytest
from safetensors import SafetensorError

from kinoclip.cli import main
from kinoclip.data.kinoshapes import kinoshapes_clips, write_video
from kinoclip.inference.output_lock import OutputLock


@pytest.fixture
def ending(monkeypatch, capsys):
    """A function that runs a command in whose work something happens, and gives its exit code and last line."""

    def run(happens, *command):
        monkeypatch.setattr("kinoclip.hub.publish.publish", happens)
        code = main([*map(str, command)] or ["publish", "folder", "org/name"])
        return code, capsys.readouterr().err.splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_every_command_ends_by_a_signal_with_one_line(number, code, said, ending):
    ended = ending(lambda *_, **__: signal.raise_signal(number))
    assert ended == (code, f"kinoclip: {said}; what was written is whole, and the same command continues it")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_c_code_makes_another_error_of_is_still_one(number, code, ending):
    def happens(*_, **__):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise TypeError("could not determine the shape of object type 'torch.storage.UntypedStorage'") from None

    assert ending(happens)[0] == code


def raise_error(error):
    def happens(*_, **__):
        raise error

    return happens


def torch_error():
    """What torch raises for a file object on a full disk."""
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
def test_a_full_disk_is_told_as_such(error, ending):
    code, line = ending(raise_error(error))
    assert code == 1
    assert line.startswith("kinoclip: the disk is full; what was written is whole. Make room")


def test_another_fault_of_safetensors_is_one_line(ending):
    assert ending(raise_error(SafetensorError("header too\nlarge"))) == (1, "kinoclip: header too large")


@pytest.fixture
def evaluate_to(tmp_path, capsys):
    """A function that evaluates on two clips and writes a report there."""
    for number, clip in enumerate(kinoshapes_clips(2, seed=4, labels=["red circle", "blue square"], num_frames=8)):
        (tmp_path / "clips" / clip.label).mkdir(parents=True)
        write_video(tmp_path / "clips" / clip.label / f"{number}.mp4", clip.frames, clip.spec.fps)

    def evaluate(output):
        code = main(["evaluate", "mini", "--data", str(tmp_path / "clips"), "--output", str(output)])
        return code, capsys.readouterr()

    return evaluate


def test_a_report_that_another_job_writes_is_left_to_it(evaluate_to, tmp_path):
    lock = OutputLock(tmp_path / "report.json")
    lock.take()
    code, said = evaluate_to(tmp_path / "report.json")
    lock.release(remove=True)
    assert (code, said.out) == (1, "")
    assert "Another job writes to" in said.err
    assert not (tmp_path / "report.json").exists()


def test_a_report_cannot_be_a_folder(evaluate_to, tmp_path):
    code, said = evaluate_to(tmp_path)
    assert (code, said.out) == (2, "")
    assert "that is a folder" in said.err


def test_a_report_that_cannot_be_kept_is_printed(evaluate_to, tmp_path, monkeypatch):
    monkeypatch.setattr("kinoclip.whole_files.write_whole", raise_error(OSError(errno.ENOSPC, "full")))
    code, said = evaluate_to(tmp_path / "new" / "report.json")
    assert code == 1
    assert "top1" in said.out
    assert "the disk is full" in said.err
    assert not list((tmp_path / "new").iterdir())


@pytest.fixture
def run_process():
    """A function that runs `kinoclip` as a program whose `main` is this code, and gives the finished process."""

    def run(body):
        code = f"import atexit, threading, time\nfrom kinoclip import cli\ndef main():\n    {body}\ncli.main = main\ncli.run()"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    return run


def test_the_process_ends_after_its_threads_and_exit_handlers(run_process):
    thread = "threading.Thread(target=lambda: (time.sleep(0.5), print('thread'))).start()"
    process = run_process(f"atexit.register(print, 'handler'); {thread}; print('work'); return 3")
    assert (process.returncode, process.stdout, process.stderr) == (3, "work\nthread\nhandler\n", "")


def test_a_fault_of_the_program_ends_the_process_as_python_does(run_process):
    process = run_process("raise LookupError('a fault')")
    assert process.returncode == 1
    assert process.stderr.endswith("LookupError: a fault\n")


def test_wrong_use_ends_the_process_with_its_code(run_process):
    process = run_process("raise SystemExit(2)")
    assert (process.returncode, process.stderr) == (2, "")
