"""Every example runs as printed, with the embedded model, and stays short."""

import json
import re
import runpy
import subprocess
from pathlib import Path

import pytest

from kinoclip.kinoshapes import kinoshapes_clips, write_video

EXAMPLES = Path(__file__).parents[1] / "examples"
COMMANDS = {
    "classify_my_video.py": ["{video}", "{clip}"],
    "see_why.py": ["{video}", "{folder}/why.png", "{clip}"],
    "embed_videos.py": ["{bike}", "red circle", "{video}"],
    "find_attributes.py": ["{video}", "--clip", "{clip}"],
    "train.py": ["kinoshapes/bike", "{shapes}", "{folder}/run", "training.epochs=1"],
    "train_with_trainer.py": ["{clip}", "{shapes}", "{folder}/trained"],
    "train_one_step.py": ["{clip}", "{video}", "red circle", "{video}", "blue square"],
}


@pytest.fixture(scope="module")
def shapes_folder(tmp_path_factory):
    """Six clips in folders of their shape."""
    root = tmp_path_factory.mktemp("shapes")
    for number, clip in enumerate(kinoshapes_clips(6, labels=["red circle", "red star", "red ring"])):
        (root / clip.shape).mkdir(exist_ok=True)
        write_video(root / clip.shape / f"{number}.mp4", clip.frames, clip.spec.fps)
    return root


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_example_runs(name, video_path, clip_folder, bike_folder, shapes_folder, programs, tmp_path):
    places = {"{video}": video_path, "{clip}": clip_folder, "{bike}": bike_folder, "{folder}": tmp_path}
    places["{shapes}"] = shapes_folder
    arguments = COMMANDS[name]
    for place, path in places.items():
        arguments = [argument.replace(place, str(path)) for argument in arguments]
    command = ["python", EXAMPLES / name, *arguments]
    done = subprocess.run(command, env=programs, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


WRONG = {
    "classify_my_video.py": ["none.mp4", "{clip}"],
    "see_why.py": ["none.mp4", "why.png", "{clip}"],
    "embed_videos.py": ["{clip}", "red circle", "none.mp4"],
    "find_attributes.py": ["none.mp4", "--clip", "{clip}"],
    "train.py": ["kinoshapes/bike", "none", "run"],
    "train_with_trainer.py": ["{clip}", "none", "run"],
    "train_one_step.py": ["{clip}", "none.mp4", "red circle"],
}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_example_reports_a_wrong_path_in_one_line(name, clip_folder, programs, tmp_path):
    arguments = [argument.replace("{clip}", str(clip_folder)) for argument in WRONG[name]]
    command = ["python", EXAMPLES / name, *arguments]
    done = subprocess.run(command, env=programs, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "none" in done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def encoder(clip_folder):
    """The encoder of `mteb_model.py`."""
    pytest.importorskip("mteb", reason="pip install 'mteb[video]'")
    return runpy.run_path(str(EXAMPLES / "mteb_model.py"))["VideoTextEncoder"](str(clip_folder))


def test_the_encoder_for_mteb_has_its_interface_and_finds_the_label_of_a_video(encoder, shapes_folder):
    from mteb.models.models_protocols import EncoderProtocol

    assert isinstance(encoder, EncoderProtocol)
    assert encoder.mteb_model_meta.modalities == ["video", "text"]
    shapes = ["circle", "star", "ring"]
    videos = [str(next((shapes_folder / shape).iterdir())) for shape in shapes]
    found = encoder.encode([{"video": videos[:2]}, {"video": videos[2:]}])
    labels = encoder.encode([{"text": [f"red {shape}" for shape in shapes]}])
    assert encoder.similarity(found, labels).argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "task",
    [
        "MockVideoClassification",
        "MockVideoClusteringTask",
        "MockVideoRetrievalT2V",
        "MockVideoZeroshotClassificationTask",
    ],
)
def test_mteb_evaluates_the_encoder(encoder, task):
    pytest.importorskip("torchcodec", reason="it needs FFmpeg", exc_type=(ImportError, RuntimeError))
    import mteb
    from mteb.mocks import mock_tasks

    results = mteb.evaluate(encoder, getattr(mock_tasks, task)(), cache=None, encode_kwargs={"batch_size": 2})
    assert 0 <= results[0].get_score() <= 1


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*COMMANDS, "mteb_model.py"}


@pytest.mark.parametrize("name", sorted({*COMMANDS, "mteb_model.py"}))
def test_an_example_has_at_most_40_lines(name):
    assert len((EXAMPLES / name).read_text().splitlines()) <= 40


def test_the_picture_of_the_benchmark_shows_the_fastest_peer_of_each_part_as_in_the_table():
    picture = runpy.run_path(str(EXAMPLES / "benchmark" / "picture.py"))
    lines = re.findall(
        r"^\| (.+) \| (.+) \| (\d+) \| (.+)x \| (.+)x \| (.+)x \|$",
        (EXAMPLES / "benchmark" / "README.md").read_text(encoding="utf-8"),
        re.M,
    )
    rows = [picture["Row"](part, peer, int(cases), *map(float, numbers)) for part, peer, cases, *numbers in lines]
    shown = re.findall(r"<!-- (.*) -->", (EXAMPLES / "benchmark" / "peers.svg").read_text(encoding="utf-8"))
    chosen = picture["fastest_peers"](rows)
    assert len(chosen) == len({row.part for row in rows} & set(picture["PARTS"].values())) > 0
    for row in chosen:
        span = f"  ({row.least:.2f} to {row.most:.2f})" if row.cases > 1 else ""
        assert {f"{row.part}: {row.peer}", f"{row.median:.2f}x{span}"} <= set(shown)


def test_the_fastest_peer_is_that_with_the_smallest_median():
    picture = runpy.run_path(str(EXAMPLES / "benchmark" / "picture.py"))
    ratios = [
        {"slow": 3.0, "fast": 1.5, "kinoclip, all cores": 1.1},
        {"slow": 2.0, "fast": 2.5, "kinoclip, all cores": 1.0},
    ]
    # medians: slow 2.5, fast 2.0; variants of kinoclip are no peers
    rows = picture["summarize"]({"rows": [{"part": "tower", "ratios": one} for one in ratios]})
    assert picture["fastest_peers"](rows) == [("vision tower", "fast", 2, 2.0, 1.5, 2.5)]


MEASURED = {
    "machine": {"processor": "P, AVX2", "instructions": ["AVX2"], "threads": 2, "torch": "2.9", "python": "3.12", "gpu": None},
    "rows": [
        {"part": "frames", "case": "a", "ms": 9.0, "ratios": {"decord": 1.5, "kinoclip, one core": 1.1, "OpenCV": 3.0}},
        {"part": "frames", "case": "b", "ms": 8.0, "ratios": {"decord": 2.5}},
        {"part": "tower", "case": "c", "ms": 7.0, "ratios": {}, "backends": {"openvino": {"ms": 3.5, "ratios": {"timm": 2.0}}}},
        {"part": "matrix", "case": "d", "ms": 6.0, "ratios": {}, "share_of_matrix_speed": 0.871},
    ],
}  # fmt: skip


def test_the_benchmark_writes_its_tables_between_the_marks_of_a_page():
    picture = runpy.run_path(str(EXAMPLES / "benchmark" / "picture.py"))
    page = "a\n<!-- peers: short -->old<!-- end -->\nb\n<!-- peers: table -->\nold\n<!-- end -->\n<!-- peers: gpu -->kept<!-- end -->\n"
    expected = """a
<!-- peers: short -->

| | authors' way | others |
|---|---|---|
| file to frames | 2.00x (decord) | 3.00x (OpenCV) |
| vision tower, openvino |  | 2.00x (timm) |

<!-- end -->
b
<!-- peers: table -->

2 threads of P, AVX2; instructions: AVX2; no GPU; torch 2.9; Python 3.12. `dtype="auto"` is float32 there, so no row says "auto".

- vision tower, share of matrix speed, d: 87% of the speed of its products with weights alone, at 6.0 ms

| | beside | cases | kinoclip is faster by | from | to |
|---|---|---|---|---|---|
| file to frames | decord | 2 | 2.00x | 1.50x | 2.50x |
| file to frames | OpenCV | 1 | 3.00x | 3.00x | 3.00x |
| vision tower, openvino | timm | 1 | 2.00x | 2.00x | 2.00x |

<!-- end -->
<!-- peers: gpu -->kept<!-- end -->
"""
    found = picture["update_page"](page, MEASURED)
    assert found == expected
    assert picture["update_page"](found, MEASURED) == found


@pytest.mark.parametrize("numbers", sorted((EXAMPLES / "benchmark").glob("numbers*.json")))
def test_the_tables_of_the_pages_are_those_of_the_committed_numbers(numbers):
    picture = runpy.run_path(str(EXAMPLES / "benchmark" / "picture.py"))
    for path in (EXAMPLES.parent / "README.md", EXAMPLES / "benchmark" / "README.md"):
        page = path.read_text(encoding="utf-8")
        assert picture["update_page"](page, json.loads(numbers.read_text())) == page


def test_a_case_of_the_benchmark_ends_with_its_seconds_and_counts_a_round_that_took_them_all(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmark"))
    take_turns = runpy.run_path(str(EXAMPLES / "benchmark" / "measuring.py"))["take_turns"]
    assert [len(take_turns({"a": int}, 3, seconds)["a"]) for seconds in (10, -1)] == [3, 1]
