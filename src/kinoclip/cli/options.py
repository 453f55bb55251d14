"""Options, signals, records and progress that commands share."""

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, get_args

from kinoclip.storage import encode_json, escape_text

FAILURE, USAGE = 1, 2
# what a command says that a signal ended, and its exit code
SIGNALS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}
_SECONDS_TO_END = 1.5
REPEATABLE: dict[str, Any] = {"action": "append", "default": []}
# videos of a job from which processes for decoding are worth their start; they cost about 5 % then
ISOLATED_FROM = 200
_GIVE_LABELS = 'Give them: --labels "diving,archery", or --labels-file.'


class UsageError(Exception):
    """The arguments of a command cannot be used."""


def add_path_argument(command: argparse.ArgumentParser, nargs: str = "+") -> None:
    """Register the argument for videos."""
    command.add_argument(
        "paths", nargs=nargs, metavar="PATH", help="video files, folders or addresses: http(s)://, s3://, ..."
    )


def add_job_options(command: argparse.ArgumentParser, retry: str) -> None:
    """Register the options of a job with records; `retry` says what --retry does."""
    add = command.add_argument
    add("--retry", nargs="?", const="errors", choices=("errors", "changed"), help=f"{retry} (default: errors)")
    isolate = (
        "decode in processes of their own, so that a file that crashes or exhausts the decoder costs an error record"
    )
    add("--isolate", action=argparse.BooleanOptionalAction, help=f"{isolate} (default: from {ISOLATED_FROM} videos)")
    digest = "recognize changed videos by the hash of their content, not by size and modification time"
    add("--digest", action="store_true", help=digest)


def find_videos(paths: Sequence[str], exclude: Sequence[str | None] = ()) -> list[str]:
    """Return the videos in the given paths, and report how many other files their folders hold."""
    from kinoclip.data.files import find_videos

    found = find_videos(paths, exclude)
    if found.others:
        notify(f"skipped files other than videos: {len(found.others)}, such as {found.others[0]}")
    if not found.videos:
        raise UsageError("The given paths hold no videos. Name videos, or folders of videos.")
    return found.videos


def add_setting_option(command: argparse.ArgumentParser, purpose: str) -> None:
    """Register --set."""
    command.add_argument("--set", **REPEATABLE, metavar="KEY=VALUE", help=f"{purpose}; repeatable")


def add_label_options(command: argparse.ArgumentParser, purpose: str) -> None:
    """Register the options for labels in the command line or in a file."""
    add = command.add_mutually_exclusive_group().add_argument
    add("--labels", help=f'{purpose}: "red circle,blue square", in quotes and with commas; or as --labels-file')
    add("--labels-file", help="a .txt (one per line), .csv (id,name), .json, or a set: kinetics400, ...")


def read_label_options(options: argparse.Namespace) -> tuple[str, ...] | None:
    """Return the labels of `add_label_options`; None if there are none."""
    from kinoclip.text.labels import as_labels, check_labels, load_names

    if options.labels_file is not None:
        return tuple(load_names(options.labels_file))
    if options.labels is None:
        return None
    labels = as_labels(options.labels)
    check_labels(labels)
    return labels


def add_chinese_option(command: argparse.ArgumentParser) -> None:
    """Register the option for second names of labels, in Chinese or another language."""
    help = "second names of the labels, for a model with a branch that reads them: .json, or a set in Chinese"
    command.add_argument("--second-labels", "--chinese-labels", dest="chinese_labels", metavar="FILE", help=help)


def add_corpus_option(command: argparse.ArgumentParser) -> None:
    """Register the option for the corpus of a model; `read_corpora` reads it."""
    help = "entities for ALT in place of its own: file of kinoclip corpus, or kinetics400, ...; comma-separated or repeated"
    command.add_argument("--corpus", **REPEATABLE, metavar="NAME", help=help)


def read_corpora(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the names of the corpora of `add_corpus_option`."""
    return tuple(name for text in options.corpus for name in ([text] if Path(text).exists() else read_names(text)))


def add_text_model_options(command: argparse.ArgumentParser, purpose: str) -> None:
    """Register the options for a text-generation model."""
    model = "local folder, name on the Hub, or address of a server with OpenAI's chat completions"
    command.add_argument("--ask", metavar="MODEL", help=f"text-generation model that {purpose}: {model}")
    command.add_argument("--token", help="access token for --ask (default: the saved one, for the Hub)")


def load_text_model(options: argparse.Namespace) -> Callable[[str], str] | None:
    """Return the function that asks the model of `add_text_model_options`; None without one."""
    from kinoclip.text.generation import ask_model

    return None if options.ask is None else ask_model(options.ask, options.token)


def read_names(text: str | None) -> tuple[str, ...]:
    """Split names in one text; see `split_names`."""
    from kinoclip.text.labels import split_names

    return split_names(text or "")


def add_model_options(command: argparse.ArgumentParser, *aliases: str, batches: bool = True) -> None:
    """Register the options for the model, under `aliases` too, and its device, and those for batches of videos."""
    from kinoclip.modeling.names import DEFAULT, Backend

    add = command.add_argument
    model = "folder, hub id, plain CLIP, or mini or mini-actions, which know the demo (default: %(default)s)"
    add("--model", *aliases, default=DEFAULT, help=model)
    add("--frames", type=int, help="frames per video or window (default: that of the model)")
    add(
        "--sampling",
        metavar="RULE",
        help="rule that samples the frames, such as cheapest (default: that of the model)",
    )
    add_device_options(command)
    compile = "compile the encoder of frames for this machine, with CUDA graphs on a GPU; delays the first video"
    add("--compile", action="store_true", help=compile)
    add_setting_option(command, "setting of the model other than the saved one, such as rate=4 for SLLM")
    if not batches:
        command.set_defaults(batch_size=None, timeout=1.0, backend="torch")
        return
    size = "videos that go through the model together; more are faster on a GPU (default: 8, on a CPU 1)"
    add("--batch-size", type=int, metavar="N", help=size)
    features = "store the features of videos and labels here, and reuse them instead of decoding and encoding"
    add("--features", metavar="DIR", help=features)
    seconds = "time limit for reading one video, except with --spans (default: %(default)g)"
    add("--timeout", type=float, default=600.0, metavar="SECONDS", help=seconds)
    backend = "those other than torch run on the CPU, without explanations (default: %(default)s)"
    add("--backend", default="torch", choices=get_args(Backend), help=backend)


def add_device_options(command: argparse.ArgumentParser) -> None:
    """Register --device and --dtype."""
    device = "where to compute: auto (a GPU if there is one), cpu, cuda, mps (default: %(default)s)"
    command.add_argument("--device", default="auto", help=device)
    dtype = "of the weights; auto is bfloat16 where that is faster and the model is large (default: %(default)s)"
    command.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"), help=dtype)


def check_model_options(options: argparse.Namespace) -> dict[str, Any]:
    """Check the options of `add_model_options` before torch is imported, and return the settings of --set."""
    from kinoclip.modeling.names import DEFAULT, EMBEDDED, check_model_name

    if options.model in (EMBEDDED, DEFAULT) and not _has_labels(options):
        raise UsageError(f"The model {options.model} carries no labels of its own. {_GIVE_LABELS}")
    check_model_name(options.model)
    check_least(options, frames=1, batch_size=1)
    if not options.timeout > 0:
        raise UsageError(f"--timeout must be above 0, got {options.timeout:g}.")
    return read_settings(options.set)


def _has_labels(options: argparse.Namespace) -> bool:
    """Check whether the labels of a command are given, if it has options for them."""
    given = [value for name, value in vars(options).items() if name in ("labels", "labels_file")]
    return not given or any(value is not None for value in given)


def load_classifier(options: argparse.Namespace, launch: Any = None, **more: Any) -> Any:
    """Load the classifier of `add_model_options`; `launch` is that of `find_launch`."""
    settings = check_model_options(options)
    from kinoclip.inference.classifier import Classifier

    device = options.device if launch is None else launch.device
    placed = {"device": device, "dtype": options.dtype, "backend": options.backend, "compile": options.compile}
    classifier = Classifier.load(options.model, settings=settings, **placed, **more)
    if not _has_labels(options) and classifier.model.candidates() is None:
        raise UsageError(f"{options.model} carries no labels of its own. {_GIVE_LABELS}")
    if options.frames is not None:
        finder = [] if classifier.attributes is None else [classifier.attributes.processor.video_processor]
        for videos in (classifier.video_processor, *finder):
            videos.num_frames = options.frames
    if options.sampling is not None:
        from kinoclip.video.sampling import SamplingRule

        if options.sampling not in get_args(SamplingRule):
            known = ", ".join(get_args(SamplingRule))
            raise UsageError(f"--sampling must be one of {known}, got {options.sampling!r}.")
        classifier.video_processor.sampling = options.sampling
    return classifier


def check_rate(options: argparse.Namespace) -> None:
    """Check --fps and --min-seconds."""
    if not 0 < options.fps < float("inf") or options.min_seconds < 0:
        raise UsageError("--fps must be above 0, and --min-seconds at least 0.")


def check_least(options: argparse.Namespace, **least: int) -> None:
    """Check the lowest values of options; an option that is None is not given."""
    for name, value in least.items():
        given = getattr(options, name)
        if given is not None and given < value:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {value}, got {given}.")


def is_distributed() -> bool:
    """Check whether `accelerate launch` or `torchrun` started the command in several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def find_launch(device: str) -> Any:
    """Return the accelerator of a command with several processes, or None."""
    if not is_distributed():
        return None
    from accelerate import Accelerator

    from kinoclip.inference.backends import choose_device

    return Accelerator(cpu=choose_device(device).type == "cpu")


def refuse_distributed(command: str) -> None:
    """Check that the command was started in one process."""
    if is_distributed():
        raise UsageError(f"kinoclip {command} runs in one process.")


def describe_end(number: signal.Signals, command: str = "the same command") -> tuple[str, int]:
    """Return the message and the exit code of a command that a signal ended; `command` continues it."""
    word, code = SIGNALS[number]
    return f"{word}; all records and files are complete, and {command} continues", code


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt for SIGTERM too, and yield a list of the signals, since C code may raise another error.

    Python calls a handler only once a call into C code returns. A thread ends the process, as a kill would, where it does not within
    `_SECONDS_TO_END`, such as in a read from a silent pipe.
    """
    received: list[int] = []

    def stop(number: int, _: object) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ended = threading.Event()
    threading.Thread(target=_end_late, args=(theirs, ended), name="kinoclip-signals", daemon=True).start()
    wakeup = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, stop)
    try:
        yield received
    finally:
        ended.set()
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()


def _end_late(signals: socket.socket, ended: threading.Event) -> None:
    """Wait for the number of a signal, and end the process if the command has not ended in time after it."""
    with signals:
        while number := next(iter(signals.recv(1)), 0):
            if number in SIGNALS and not ended.wait(_SECONDS_TO_END):
                message, code = describe_end(signal.Signals(number))
                notify(message)
                end_process(code)


def _forget_signals() -> None:
    """Stop a forked process from reporting its signals to the thread of its parent."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_signals)


def end_process(code: int) -> NoReturn:
    """End the process and its worker processes at once."""
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.kill()
    os._exit(code)


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse KEY=VALUE pairs; a value that is not JSON is a string."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set must be KEY=VALUE, such as --set num_frames=16, got {pair}.")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return settings


def show(*lines: str) -> None:
    """Print lines on standard output; control characters in names and labels are escaped."""
    for line in lines:
        print(escape_text(line), flush=True)


def notify(*lines: str) -> None:
    """Print lines on standard error, see `show`."""
    print("kinoclip: " + "\n".join(map(escape_text, lines)), file=sys.stderr, flush=True)


def show_json(content: Any, indent: int | None = None) -> None:
    """Print JSON on standard output, in one line or indented."""
    print(encode_json(content, indent), end="", flush=True)


def write_records(
    job: Any,
    plan: Any,
    path: str | Path,
    launch: Any,
    *,
    top_k: int,
    retry: Any,
    then: Callable[[], None] | None = None,
) -> int:
    """Write the records of this process's share of a job; the first process calls `then` once all are written.

    Returns the exit code.
    """
    from kinoclip.inference.record_output import RecordOutput

    process: dict[str, Any] = {"process": plan.process, "processes": plan.processes, "retry": retry}
    wait = {} if launch is None else {"wait": launch.wait_for_everyone}
    with RecordOutput(path, job.identity, top_k, locate=job.path, **process, **wait) as output:
        done = sum(video in output for video in plan.videos)
        if done and plan.process == 0:
            notify(f"{done} of {len(plan.videos)} are done already")
        todo = [video for batch in plan.batches for video in batch if video not in output]
        progress = Progress(len(todo), plan.process == 0)
        for record in job.label(plan, done=output):
            output.append(record)
            progress(record)
        output.finish(plan.videos)
        if then is not None and plan.process == 0:
            then()
    return (
        progress.exit_code if len(todo) == len(plan.videos) else 0
    )  # the others were answered, or by other processes


class Progress:
    """A progress bar on standard error, and a last line with the numbers where that is not a terminal.

    Args:
        total: number of videos.
        is_shown: whether to show more than errors.
        unit: what is counted.
    """

    def __init__(self, total: int, is_shown: bool = True, unit: str = "videos"):
        from tqdm import tqdm

        self.total, self.is_shown, self.unit = total, is_shown, unit
        self.count = self.failed = 0
        self.start = time.monotonic()
        self._bar = tqdm(total=total, unit=f" {unit}", disable=None if is_shown else True, dynamic_ncols=True)

    @property
    def exit_code(self) -> int:
        """Failure if no video can be read."""
        return FAILURE if self.failed and self.failed == self.total else 0

    def __call__(self, record: dict[str, Any]) -> None:
        """Count a record."""
        if "error" in record:
            self.failed += 1
            self._bar.write(f"kinoclip: {escape_text(record['error']['message'])}", file=sys.stderr)
        self.add(1)

    def add(self, count: int) -> None:
        """Count videos."""
        self.count += count
        self._bar.update(count)
        if self.count == self.total:
            self._bar.close()
            rate = self.count / max(time.monotonic() - self.start, 1e-9)
            if self.is_shown and not sys.stderr.isatty():
                unreadable = f", {self.failed} unreadable" if self.unit == "videos" else ""
                numbers = f"{self.count}/{self.total} {self.unit}{unreadable}, {rate:.1f}/s"
                print(numbers, file=sys.stderr, flush=True)
