import signal

import pytest

from kinoclip.training.interrupting import Interruption


class AskedToEndError(Exception):
    pass


@pytest.fixture
def terminate():
    """Lets SIGTERM raise an error of its own."""

    def raise_error(*_):
        raise AskedToEndError

    before = signal.signal(signal.SIGTERM, raise_error)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, AskedToEndError)])
def test_a_signal_waits_and_then_does_what_it_does_elsewhere(number, error, terminate):
    with Interruption() as interruption:
        signal.raise_signal(number)
        assert interruption.asked == number
        with pytest.raises(error):
            interruption.stop()


def test_a_second_signal_stops_at_once():
    with Interruption():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_process_that_got_no_signal_stops_with_the_others():
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        interruption.stop()
