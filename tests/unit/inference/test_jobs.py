import json
import os

import pytest
import torch
from PIL import Image

from kinoclip import Classifier
from kinoclip.data.kinoshapes import kinoshapes_clips, write_video
from kinoclip.inference.batches import read_batches, share_out
from kinoclip.inference.jobs import Job, find_videos, leave_out
from kinoclip.inference.record_file import RecordFile
from kinoclip.inference.records import error_line


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.mp4", "a.mp4", "deep/c.mp4", ".hidden.mp4", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_folders_are_searched_in_order_without_hidden_files(folder):
    found = [os.path.relpath(path, folder) for path in find_videos([str(folder)])]
    assert found == ["a.mp4", "b.mp4", "deep/c.mp4", "notes.txt"]


def test_a_file_given_twice_is_labelled_once(folder):
    assert find_videos([str(folder / "a.mp4"), str(folder / "a.mp4")]) == [str(folder / "a.mp4")]


def test_a_folder_of_images_is_one_video(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8)).save(frames / f"{i}.png")
    assert find_videos([str(tmp_path)]) == [str(frames)]


def test_a_link_to_a_folder_is_not_followed(folder):
    (folder / "loop").symlink_to(folder)
    assert len(find_videos([str(folder)])) == 4


def test_an_address_is_taken_as_it_is():
    assert find_videos(["https://example.org/a.mp4"]) == ["https://example.org/a.mp4"]


def test_a_missing_path_is_an_error_that_names_it():
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        find_videos(["none.mp4"])


@pytest.mark.parametrize("name", ["a\nb.mp4", 'a"b.mp4', "vidéo 动作.mp4", "-dash.mp4", "a,b.mp4", "100%.mp4"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_names_of_any_letters_are_remembered(tmp_path, name, suffix):
    path = tmp_path / f"out{suffix}"
    with RecordFile(path, "job", 1) as records:
        records.write({"video": name, "predictions": [{"label": "x", "probability": 1.0}], "job": "job"})
        records.write({"video": "last", "error": {"type": "E", "message": "m"}, "job": "job"})
    with RecordFile(path, "job", 1) as records:
        assert records.done == {name, "last"}


def test_a_name_that_is_no_text_is_remembered(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    path = tmp_path / "out.jsonl"
    with RecordFile(path, "job") as records:
        records.write({"video": name, "job": "job"})
    with RecordFile(path, "job") as records:
        assert records.done == {name}


@pytest.mark.parametrize("content", [b"hello\n", b"[1]\n", b'{"video": 1}\n', b"\xff\xfe\n"])
def test_a_file_with_other_content_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="something else"):
        RecordFile(path, "job")
    assert path.read_bytes() == content


def test_a_device_is_no_output(tmp_path):
    (tmp_path / "out.jsonl").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="no regular file"):
        RecordFile(tmp_path / "out.jsonl", "job")


def test_an_error_becomes_one_line():
    assert error_line(ValueError("two\n  lines")) == "two lines"
    assert error_line(FileNotFoundError(2, "No such file or directory", "x.mp4")) == "No such file or directory: x.mp4"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Seven videos of which the fourth is broken."""
    folder = tmp_path_factory.mktemp("clips")
    for number, clip in enumerate(kinoshapes_clips(7, seed=1, split="test")):
        write_video(folder / f"{number}.mp4", clip.frames, clip.spec.fps)
    (folder / "3.mp4").write_bytes(b"no video")
    return [str(folder / f"{number}.mp4") for number in range(7)]


LABELS = ("red circle", "blue square", "green star")


def as_text(records):
    return [json.dumps(record) for record in records]


@pytest.mark.parametrize("batch_size", [2, 7])
def test_records_do_not_depend_on_the_batch_size(classifier, clips, batch_size):
    one = list(Job(classifier, LABELS, batch_size=1).label(clips))
    many = list(Job(classifier, LABELS, batch_size=batch_size).label(clips))
    assert [record["video"] for record in many] == clips
    assert [record.get("label") for record in many] == [record.get("label") for record in one]
    # batches are multiplied in another order
    probabilities = [[p["probability"] for record in r for p in record.get("predictions", [])] for r in (one, many)]
    assert probabilities[1] == pytest.approx(probabilities[0], abs=2e-6)


def test_explanations_do_not_depend_on_the_batch_size(classifier, clips):
    one, many = (list(Job(classifier, LABELS, explain=True, batch_size=n).label(clips[:3])) for n in (1, 3))
    saliency = [[weight for record in r for weight in record["saliency"]["red circle"]] for r in (one, many)]
    assert saliency[1] == pytest.approx(saliency[0], abs=2e-4)


def test_a_continued_job_gives_the_same_records_to_the_last_digit(classifier, clips):
    job = Job(classifier, LABELS, batch_size=3)
    whole = list(job.label(clips))
    rest = list(job.label(clips, done={clips[0], clips[1], clips[4]}))
    assert as_text(rest) == as_text([whole[i] for i in (2, 3, 5, 6)])


def test_processes_together_give_each_record_once_to_the_last_digit(classifier, clips):
    job = Job(classifier, LABELS, batch_size=2)
    whole = as_text(job.label(clips))
    shares = [as_text(job.label(clips, process=process, processes=3)) for process in range(3)]
    assert shares[0] == whole[:2] + whole[6:]
    assert shares[1] + shares[2] == whole[2:6]


def test_videos_are_read_no_further_ahead_than_a_batch_or_the_threads(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    begun = []
    batches = read_batches(lambda video: begun.append(video), share_out([str(i) for i in range(100)], 4))
    next(batches)
    batches.close()
    # the batch that was asked for, and the one after it
    assert len(begun) <= 8


def test_below_the_threshold_the_answer_is_none_of_these(classifier, clips):
    answer = classifier.classify(clips[0], LABELS)
    best, probability = answer[0]
    assert answer.decide() == best
    assert answer.decide(probability) == best
    assert answer.decide(probability + 1e-6) is None
    [record] = Job(classifier, LABELS, threshold=1.0).label(clips[1:2])
    assert record["label"] == "none of these"
    assert [p["label"] for p in record["predictions"]]


def test_a_background_competes_and_is_never_the_answer(classifier, clips):
    best = classifier.classify(clips[0], LABELS).label
    others = tuple(label for label in LABELS if label != best)
    [record] = Job(classifier, others, background=(best,)).label(clips[:1])
    assert record["label"] == "none of these"
    assert record["predictions"][0]["label"] == best


def test_threshold_background_and_number_format_make_another_job(classifier, clip_folder):
    half = Classifier.load(clip_folder, dtype=torch.bfloat16)
    half.name = classifier.name
    jobs = [
        Job(classifier, LABELS),
        Job(classifier, LABELS, threshold=0.5),
        Job(classifier, LABELS, background=("x",)),
        Job(half, LABELS),
    ]
    assert len({job.identity for job in jobs}) == 4
    assert Job(classifier, LABELS, batch_size=1).identity == jobs[0].identity


def test_what_a_job_writes_is_not_taken_for_videos(tmp_path):
    names = ["a.mp4", "out.jsonl", "out.jsonl.part-00001-of-00002.jsonl", "features/x.safetensors", "features2/b.mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = find_videos([str(tmp_path)])
    kept = leave_out([*found, "https://example.org/a.mp4"], [tmp_path / "out.jsonl", tmp_path / "features", None])
    assert kept == [str(tmp_path / "a.mp4"), str(tmp_path / "features2" / "b.mp4"), "https://example.org/a.mp4"]
