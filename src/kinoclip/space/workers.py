"""Answer requests in processes of their own, so that no video of a visitor can stop, exhaust or hold the page."""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from queue import Empty, Queue
from threading import Lock, Thread
from typing import Any, TypeVar

from kinoclip.space.answers import Answer, Models, Question, Report, answer, hide_path
from kinoclip.space.limits import Limits, VisitError, check_video
from kinoclip.video import VideoDecodeError, VideoTimeoutError
from kinoclip.video.isolation import CancelledError, IsolatedProcess, start_server

Result = TypeVar("Result")

_USUAL_FRAMES = 16  # that models sample, if the visitor does not say how many


class Workers:
    """Processes that answer requests, in two lanes: videos with little to decode do not wait for those with much.

    Args:
        sources: see `Models`.
        limits: of a request.
    """

    def __init__(self, sources: Sequence[str] = (), limits: Limits | None = None):
        self.models, self.limits = Models(sources), limits or Limits()
        self._sources = tuple(sources)
        cores = os.cpu_count() or 1
        options = (self.limits.worker_megabytes, max(1, cores // 2))
        # one that hangs, until its time is over, leaves another for the next visitor
        self._processes = [IsolatedProcess(*options) for _ in range(1 + max(2, cores))]
        self._fast: Queue[IsolatedProcess] = Queue()
        self._slow: Queue[IsolatedProcess] = Queue()
        for process in self._processes[1:]:
            self._fast.put(process)
        self._slow.put(self._processes[0])
        self._running: Counter[str] = Counter()
        self._lock = Lock()
        start_server()  # before the page has a temporary folder of its own
        for lane in (self._fast, self._slow):  # a process of each lane is ready when the first visitor comes
            Thread(target=self._warm, args=(lane,), daemon=True).start()

    def answer(
        self,
        question: Question,
        client: str = "",
        report: Report = lambda share, what: None,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> Answer:
        """Answer a request within `Limits.answer_seconds`; `report` is called with the progress.

        Args:
            question: the request.
            client: address of the visitor, for the number of requests at a time; "" for the page itself.
            report: called with a share from 0 to 1 and what is done.
            is_gone: whether the visitor has left; the work is then stopped.

        Raises:
            VisitError: it cannot be answered; the message holds no paths of the server.
            CancelledError: the visitor has left.
        """
        end = time.monotonic() + self.limits.answer_seconds
        options: dict[str, Any] = {"name": question.video, "end": end, "is_gone": is_gone}
        with self._count(client), _as_visit_errors(question):
            report(0.1, "Waiting")
            sampled = None if question.spans else question.frames or _USUAL_FRAMES
            pixels = self._run(
                self._fast,
                check_video,
                question.video,
                self.limits,
                sampled,
                longest=self.limits.fast_seconds,
                **options,
            )
            is_fast = pixels <= self.limits.fast_gigapixels * 1e9
            lane, longest = (self._fast, self.limits.fast_seconds) if is_fast else (self._slow, math.inf)
            return self._run(
                lane, _answer, self._sources, question, self.limits, longest=longest, report=report, **options
            )

    def reads_chinese(self, name: str) -> bool:
        """Return whether a model has a Chinese branch and its tokenizer."""
        return self._run(self._fast, _reads_chinese, self._sources, name)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.close()

    @contextmanager
    def _count(self, client: str) -> Iterator[None]:
        with self._lock:
            if client and self._running[client] >= self.limits.per_client:
                raise VisitError(
                    f"At most {self.limits.per_client} requests of a visitor are answered at a time. Wait for those that run."
                )
            self._running[client] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[client] -= 1
                self._running += Counter()  # forget those at zero

    def _warm(self, lane: Queue[IsolatedProcess]) -> None:
        with suppress(VideoDecodeError):  # the page is closed already
            self._run(lane, _load_first, self._sources)

    def _run(
        self,
        lane: Queue[IsolatedProcess],
        function: Callable[..., Result],
        *arguments: Any,
        name: str = "this file",
        end: float | None = None,
        longest: float = math.inf,
        report: Report = lambda share, what: None,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> Result:
        """Call a function in a process of a lane; it waits until `end` and is killed then, or after its `longest` seconds."""
        end = time.monotonic() + self.limits.answer_seconds if end is None else end
        while True:
            if is_gone():
                raise CancelledError
            try:
                process = lane.get(timeout=0.2)
                break
            except Empty:
                if time.monotonic() > end:
                    raise VisitError("The page is busy. Try again in a minute.") from None
        try:
            report(0.4, "Recognizing")
            seconds = max(0.0, min(longest, end - time.monotonic()))
            return process.call(function, *arguments, name=name, seconds=seconds, is_cancelled=is_gone)
        finally:
            lane.put(process)


@contextmanager
def _as_visit_errors(question: Question) -> Iterator[None]:
    try:
        yield
    except VideoTimeoutError as error:
        raise VisitError("Reading this video takes too long. Upload a shorter part, or re-encode it.") from error
    except (VideoDecodeError, OSError) as error:
        raise VisitError(hide_path(error, question.video)) from error


@cache
def _models(sources: tuple[str, ...]) -> Models:
    """Return the models of a worker process."""
    return Models(sources)


def _load_first(sources: tuple[str, ...]) -> None:
    models = _models(sources)
    models.load(models.names[-1])


def _answer(sources: tuple[str, ...], question: Question, limits: Limits) -> Answer:
    return answer(question, _models(sources), limits)


def _reads_chinese(sources: tuple[str, ...], name: str) -> bool:
    return _models(sources).reads_chinese(name)
