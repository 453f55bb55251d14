"""Parts of the benchmark that read videos: frames, pixels, one file or many to labels, a cold start."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measuring import make_video
from parts_models import HALF, NUM_CLASSES, NUM_FRAMES, compare, dtypes
from readers import (
    READERS,
    pixels_authors,
    pixels_transformers,
    places,
    read_decord,
    read_kinoclip,
    read_transformers,
    to_grey_levels,
)
from towers import (
    OPEN_CLIP,
    authors_saliency,
    build_kinoclip,
    build_open_clip,
    build_xclip,
    exports,
    save_models,
    unless_missing,
)

from kinoclip import Classifier, RecognizerVideoProcessor, VideoReader
from kinoclip.inference.batch_job import ClassifyJob, choose_batch_size, read_batches
from kinoclip.inference.encoding import compute_on_cores, threads_per_batch
from kinoclip.modeling.outputs import TextFeatures
from kinoclip.modeling.processing import RecognizerProcessor
from kinoclip.modeling.video_processing import SampledVideo
from kinoclip.video.errors import VideoDecodeError

SHAPES = [
    (width, height, gop, seconds)
    for width, height, gops, seconds in (
        (320, 240, (12, 250), 10),
        (340, 256, (12, 250), 10),
        (340, 256, (12, 250), 60),
        (1280, 720, (12, 250), 10),
        (1920, 1080, (12, 250), 10),
    )
    for gop in gops
]
# five kinds of clip, one of each
KINDS = [(340, 256, 250, 10), (340, 256, 12, 10), (340, 256, 250, 60), (1280, 720, 12, 10), (1920, 1080, 250, 10)]


# long videos for the rule "cheapest"
LONG = [(340, 256, gop, 60) for gop in (12, 60, 250)]


def videos(options, shapes=SHAPES) -> dict[str, str]:
    """Name the generated clips, made on first use, and the files of `--videos`."""
    found = {}
    for width, height, gop, seconds in shapes:
        name = f"{width}x{height}, {seconds} s, GOP {gop}"
        path = options.folder / f"{width}x{height}_{seconds}s_gop{gop}.mp4"
        found[name] = str(path) if path.exists() else make_video(path, gop, seconds, width, height)
    if options.videos and shapes is SHAPES:
        found |= {path.name: str(path) for path in sorted(options.videos.iterdir()) if is_video(path)}
    return found


def is_video(path: Path) -> bool:
    try:
        with VideoReader(path):
            return True
    except (VideoDecodeError, OSError):
        return False


def measure_frames(options) -> Iterator[dict]:
    """A file to T frames of full size; a reader that gives other frames than were asked for, or fails, has no time."""
    found = videos(options)
    for name, path in found.items():
        for count in (8, 16, 32):
            right, wrong = {}, {}
            for reader, read in READERS.items():
                said = judge(read, path, count)
                if said == "right":
                    right[reader] = partial(read, path, count)
                else:
                    wrong[reader] = said
            yield compare({"case": f"{name}, T = {count}"}, right, options, 3 * len(found)) | {"wrong": wrong}


def judge(read, path: str, count: int) -> str:
    """Tell whether each frame is nearest to the one that was asked for, among its neighbors in the video."""
    try:
        found = read(path, count)
    except ImportError:
        return "not installed"
    except Exception as error:  # whatever a peer raises
        return f"fails: {type(error).__name__}"
    with VideoReader(path) as reader:
        wanted = places(reader.num_frames, count)
        around = [[min(max(i + d, 0), reader.num_frames - 1) for i in wanted] for d in (-1, 0, 1)]
        truth = [reader.frames(indices).permute(0, 2, 3, 1).numpy() for indices in around]
    if found.shape != truth[1].shape:
        return f"gives {found.shape}"
    distances = [[np.abs(f.astype(np.int16) - t).mean() for f, t in zip(found, one, strict=True)] for one in truth]
    return (
        "right" if all(own <= min(before, after) for before, own, after in zip(*distances, strict=True)) else "wrong"
    )


def measure_pixels(options) -> Iterator[dict]:
    """8 decoded frames to what the encoder takes; and a file to that."""
    processor = build_processor()
    for name, path in videos(options, KINDS).items():
        frames = np.ascontiguousarray(read_kinoclip(path, NUM_FRAMES))  # as decoders give them
        tensors = torch.from_numpy(frames).permute(0, 3, 1, 2)
        jobs = {
            "kinoclip": partial(processor.prepare_frames, tensors),
            "authors' way (PIL)": partial(pixels_authors, frames),
            "transformers": partial(pixels_transformers, frames),
        }
        levels = {key: to_grey_levels(job()) for key, job in jobs.items()}
        reference = levels.pop("authors' way (PIL)")
        off = {key: round(float((level - reference).abs().max()), 1) for key, level in levels.items()}
        yield compare({"case": f"frames of {name}"}, jobs, options, 2 * len(KINDS)) | {"most_grey_levels_off": off}
    for name, path in videos(options, KINDS).items():
        jobs = {"kinoclip": partial(processor.sample, path)}
        if judge(read_decord, path, NUM_FRAMES) == "right":
            jobs["authors' way (decord, PIL)"] = lambda path=path: pixels_authors(read_decord(path, NUM_FRAMES))
        jobs["transformers"] = lambda path=path: pixels_transformers(read_transformers(path, NUM_FRAMES))
        yield compare({"case": f"file, {name}"}, jobs, options, 2 * len(KINDS))


def measure_cheapest(options) -> Iterator[dict]:
    """A long file to pixels by the rule "cheapest"; equal distances beside it."""
    cheapest, even = (
        RecognizerVideoProcessor(sampling=rule, num_frames=NUM_FRAMES) for rule in ("cheapest", "segment_start")
    )
    for name, path in videos(options, LONG).items():
        jobs = {"kinoclip": partial(cheapest.sample, path), "kinoclip, equal distances": partial(even.sample, path)}
        if judge(read_decord, path, NUM_FRAMES) == "right":
            jobs["authors' way (decord, PIL)"] = lambda path=path: pixels_authors(read_decord(path, NUM_FRAMES))
        yield compare({"case": name}, jobs, options, len(LONG))


def build_processor() -> RecognizerProcessor:
    return RecognizerProcessor.for_config(build_kinoclip("vitb32", interaction="mean").config, None).video_processor


def build_classifiers(clip: str, device: str, backends: Sequence[str]) -> dict[str, Classifier]:
    """BIKE over 400 classes whose text is encoded already, by the variant of kinoclip that computes it."""
    found = {}
    for half, dtype in dtypes(clip, device).items():
        model = build_kinoclip(clip)
        words = torch.randn(NUM_CLASSES, 77, model.config.projection_dim)
        labels = [f"label {number}" for number in range(NUM_CLASSES)]
        model.set_candidates(labels, TextFeatures(embeds=words[None, :, -1], words=words))
        found["auto" if half else "kinoclip"] = model.to(device, dtype)
    if device == "cpu":
        found |= exports(found["kinoclip"], ["frames", "head"], backends)
    processor = RecognizerProcessor.for_config(model.config, None)
    classifiers = {name: Classifier(model, processor, name) for name, model in found.items()}
    for classifier in classifiers.values():
        classifier.set_labels(None)
    return classifiers


def authors_recognizer(clip: str, device: str, dtype: torch.dtype, text: TextFeatures):
    """BIKE as its repository runs it: decord, PIL, OpenAI's tower, the head of `kinoclip` without saliency's shortcuts."""
    import decord  # noqa: F401  (missed here, not in the middle of a round)

    tower, head = (each.to(device, dtype) for each in (build_open_clip(clip), build_kinoclip(clip).temporal_head))
    words, sentences = text.words.to(device, dtype), text.embeds[0].to(device, dtype)

    @torch.inference_mode()
    def recognize(path: str) -> torch.Tensor:
        pixels = pixels_authors(read_decord(path, NUM_FRAMES)).to(device, dtype)
        return authors_saliency(head(tower.encode_image(pixels)[None]), words, sentences).softmax(-1)

    return recognize


def xclip_recognizer(num_labels: int):
    """X-CLIP as its documentation runs it: the text goes through the model again with each video."""
    model = build_xclip()
    ids = torch.randint(1, 49000, (num_labels, 12))
    ids[:, -1] = model.config.text_config.vocab_size - 1

    @torch.inference_mode()
    def recognize(path: str) -> torch.Tensor:
        pixels = pixels_transformers(read_transformers(path, NUM_FRAMES))[None]
        return model(input_ids=ids, pixel_values=pixels).logits_per_video.softmax(-1)

    return recognize


@torch.inference_mode()
def measure_file(options) -> Iterator[dict]:
    """One file to the probabilities of 400 labels, their text encoded before."""
    classifiers = build_classifiers(options.clip, "cpu", options.backends)
    jobs = {name: classifier.classify for name, classifier in classifiers.items()}
    build = partial(authors_recognizer, options.clip, "cpu", torch.float32, classifiers["kinoclip"].text)
    if peer := unless_missing("decord, open_clip", build):
        jobs["authors' way"] = peer
    if options.clip == "vitb32":
        jobs |= {f"transformers X-CLIP, {k} labels": xclip_recognizer(k) for k in (5, NUM_CLASSES)}
    for name, path in videos(options, KINDS).items():
        yield compare({"case": name}, {key: partial(job, path) for key, job in jobs.items()}, options, len(KINDS))


@torch.inference_mode()
def measure_files(options, device: str = "cpu") -> Iterator[dict]:
    """Many files to labels, and how long decoding and inference take without one another; on a GPU for each CLIP."""
    clips, kinds, count = ([options.clip], KINDS, 16) if device == "cpu" else (list(OPEN_CLIP), KINDS[::4], 64)
    for clip in clips:
        classifiers = build_classifiers(clip, device, options.backends)
        classifier = list(classifiers.values())[0 if device == "cpu" else -1]
        half = HALF if classifier.model.dtype == torch.bfloat16 else ""
        build = partial(authors_recognizer, clip, device, classifier.model.dtype, classifier.text)
        peer = unless_missing("decord, open_clip", build)
        for name, path in videos(options, kinds).items():
            paths = copy(path, count)
            jobs = {variant: partial(label_all, one, paths) for variant, one in classifiers.items()}
            jobs["decoding alone" + half] = partial(decode_all, classifier, paths)
            jobs["inference alone" + half] = partial(compute_all, classifier, [classifier.read(path)] * count)
            if peer:
                jobs["authors' way" + half] = lambda paths=paths, peer=peer: [peer(one) for one in paths]
            yield compare({"case": f"{clip}, {count} files, {name}"}, jobs, options, len(clips) * len(kinds), 0.5)


def label_all(classifier: Classifier, paths: list[str]) -> None:
    for _ in ClassifyJob(classifier, None).label(paths):
        pass


def decode_all(classifier: Classifier, paths: list[str]) -> None:
    for _ in read_batches(classifier.read, [[path] for path in paths]):
        pass


def compute_all(classifier: Classifier, samples: list[SampledVideo]) -> None:
    """Classify decoded videos as a job does."""
    size = choose_batch_size(classifier.model, None)
    batches = [samples[start : start + size] for start in range(0, len(samples), size)]
    for _ in compute_on_cores(classifier.answers, batches, threads_per_batch(len(batches), classifier.model)):
        pass


def copy(path: str, count: int) -> list[str]:
    """Other names for one file."""
    names = [Path(path).with_name(f"{Path(path).stem}_{number}.mp4") for number in range(count)]
    for name in names:
        if not name.exists():
            os.link(path, name)
    return [str(name) for name in names]


def measure_start(options) -> Iterator[dict]:
    """A new process to the label of one clip, with 5 labels; seconds and peak memory of the process."""
    path = next(iter(videos(options, KINDS).values()))
    ours, theirs = save_models(options.folder)
    labels = "diving,archery,juggling balls,dancing,cooking"
    script = Path(__file__).with_name("xclip_script.py")
    commands = {
        "kinoclip": [sys.executable, "-m", "kinoclip", "classify", path, "--labels", labels, "--model", str(ours)],
        "transformers X-CLIP": [sys.executable, str(script), path, labels, str(theirs)],
        "import torch and CLIPModel": [sys.executable, "-c", "import torch; from transformers import CLIPModel"],
        "import them and kinoclip": [
            sys.executable,
            "-c",
            "import torch; from transformers import CLIPModel; import kinoclip",
        ],
        "kinoclip --help": [sys.executable, "-m", "kinoclip", "--help"],
    }
    jobs = {name: partial(run, command) for name, command in commands.items()}
    row = compare({"case": "a new process, one clip, 5 labels"}, jobs, options, 1)
    yield {**row, "peak_mb": {name: round(peak_mb(command)) for name, command in commands.items()}}


def run(command: list[str]) -> None:
    # what is installed is compiled before its first use
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, capture_output=True, env=environment)


def peak_mb(command: list[str]) -> float:
    measured = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True); "
    measured += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    done = subprocess.run([sys.executable, "-c", measured, *command], check=True, capture_output=True, text=True)
    return float(done.stdout)
