import signal

import pytest

from kinoclip.training.run_folder import SignalHandler, claim_folder


def test_a_folder_is_claimed_once_and_continued_with_the_same_record_only(tmp_path):
    path, record = tmp_path / "run", {"recipe": {"lr": 0.1}}
    with claim_folder(path, "run.json", record):
        (path / "result").write_text("x")
        with pytest.raises(RuntimeError, match="Another job is writing to"), claim_folder(path, "run.json", record):
            pass
    with claim_folder(path, "run.json", record):
        pass
    with (
        pytest.raises(ValueError, match="Continue it with --resume"),
        claim_folder(path, "run.json", record, resume=False),
    ):
        pass
    other = {"recipe": {"lr": 0.2}}
    with pytest.raises(ValueError, match=r"recipe.lr = 0.1, and it is 0.2"), claim_folder(path, "run.json", other):
        pass


def test_a_folder_with_other_files_is_refused_and_not_changed(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(ValueError, match=r"holds other files, first notes.txt"),
        claim_folder(tmp_path, "run.json", {}),
    ):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(ValueError, match="is a file"), claim_folder(tmp_path / "notes.txt", "run.json", {}):
        pass


def test_a_job_that_fails_before_it_writes_leaves_the_folder_empty(tmp_path):
    def save():
        (tmp_path / "run" / "checkpoints").mkdir()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), claim_folder(tmp_path / "run", "run.json", {}):
        save()
    assert not list((tmp_path / "run").iterdir())


class TerminatedError(Exception):
    pass


@pytest.fixture
def terminate():
    """SIGTERM raises an error."""

    def raise_error(*_):
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, raise_error)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminatedError)])
def test_a_signal_is_delayed_and_then_has_its_usual_effect(number, error, terminate):
    with SignalHandler() as signals:
        signal.raise_signal(number)
        assert signals.received == number
        with pytest.raises(error):
            signals.stop()


def test_a_second_signal_stops_at_once_and_a_process_without_a_signal_can_stop_too():
    with SignalHandler():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with SignalHandler() as signals, pytest.raises(KeyboardInterrupt):
        signals.stop()
