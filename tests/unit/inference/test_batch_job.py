"""Batch jobs: which videos, in which batches, and what records depend on."""

import copy
import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from kinoclip import Classifier
from kinoclip.inference.batch_job import ClassifyJob, Plan, SpanJob, choose_batch_size, read_batches

LABELS = ("red circle", "blue square", "green star")


def test_batches_go_to_processes_in_turn():
    assert Plan("abcdefg", 2, process=0, processes=2).batches == ["ab", "ef"]
    assert Plan("abcdefg", 2, process=1, processes=2).batches == ["cd", "g"]


def test_on_a_gpu_a_batch_has_several_videos(classifier):
    model = torch.nn.Module.to(Classifier.load("mini").model, "meta")
    assert (choose_batch_size(model, None), choose_batch_size(model, 3)) == (8, 3)
    assert (choose_batch_size(classifier.model, None), choose_batch_size(classifier.model, 3)) == (1, 3)


def test_videos_are_read_at_most_a_batch_or_the_threads_ahead(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    begun = []
    batches = read_batches(begun.append, Plan([str(i) for i in range(100)], 4).batches)
    next(batches)
    batches.close()
    # the batch that was returned, and the one after it
    assert len(begun) <= 8


def as_text(records):
    return [json.dumps(record) for record in records]


@pytest.mark.parametrize("batch_size", [2, 7])
def test_records_do_not_depend_on_the_batch_size(classifier, clips, batch_size):
    one = list(ClassifyJob(classifier, LABELS, batch_size=1).label(clips))
    many = list(ClassifyJob(classifier, LABELS, batch_size=batch_size).label(clips))
    assert [record["video"] for record in many] == clips
    assert "error" in many[3]
    assert [record.get("label") for record in many] == [record.get("label") for record in one]
    # batches are multiplied in another order
    probabilities = [[p["probability"] for record in r for p in record.get("predictions", [])] for r in (one, many)]
    assert probabilities[1] == pytest.approx(probabilities[0], abs=2e-6)


def test_a_continued_job_gives_the_same_records_to_the_last_digit(classifier, clips, monkeypatch):
    job = ClassifyJob(classifier, LABELS, batch_size=3)
    whole = list(job.label(clips))
    rest = list(job.label(clips, done={clips[0], clips[1], clips[4]}))
    assert as_text(rest) == as_text([whole[i] for i in (2, 3, 5, 6)])
    decoded, read = [], classifier.read
    monkeypatch.setattr(classifier, "read", lambda video: decoded.append(video) or read(video))
    assert len(list(job.label(clips, done=set(clips[:3])))) == 4
    assert sorted(decoded) == clips[3:]


def test_processes_together_give_each_record_once_to_the_last_digit(classifier, clips):
    job = ClassifyJob(classifier, LABELS, batch_size=2)
    whole = as_text(job.label(clips))
    shares = [as_text(job.label(job.plan(clips, process, 3))) for process in range(3)]
    assert shares[0] == whole[:2] + whole[6:]
    assert shares[1] + shares[2] == whole[2:6]


@pytest.mark.usefixtures("two_threads")
def test_a_job_on_two_cores_gives_the_records_of_one_and_is_continued_to_the_last_digit(classifier, clips):
    clips = clips[:5]
    together = list(ClassifyJob(classifier, LABELS).label(clips))
    assert list(ClassifyJob(classifier, LABELS).label(clips, done=set(clips[1:4]))) == [together[0], together[4]]
    torch.set_num_threads(1)
    alone = list(ClassifyJob(classifier, LABELS).label(clips))
    torch.set_num_threads(2)
    # the last video was computed with two threads
    assert together[:4] == alone[:4]
    assert together[4]["label"] == alone[4]["label"]


@pytest.mark.usefixtures("two_threads")
def test_explanations_are_the_same_on_two_cores(classifier, clips):
    """The hooks of an explanation must not see another video."""
    together = list(ClassifyJob(classifier, LABELS, explain=True).label(clips[:2]))
    alone = [next(ClassifyJob(classifier, LABELS, explain=True).label([clip])) for clip in clips[:2]]
    assert [record["saliency"] for record in together] == [record["saliency"] for record in alone]


@pytest.mark.usefixtures("two_threads")
def test_a_job_that_is_closed_restores_the_threads_of_torch(classifier, clips):
    records = ClassifyJob(classifier, LABELS).label(clips)
    next(records)
    records.close()
    assert torch.get_num_threads() == 2


def test_below_the_threshold_the_answer_is_none_of_these(classifier, clips):
    best, probability = (answer := classifier.classify(clips[0], LABELS))[0]
    assert answer.decide(probability) == best
    assert answer.decide(probability + 1e-6) is None
    [record] = ClassifyJob(classifier, LABELS, threshold=1.0).label(clips[1:2])
    assert record["label"] == "none of these"
    assert len(record["predictions"]) == 3


def test_a_background_competes_and_is_never_the_answer(classifier, clips):
    best = classifier.classify(clips[0], LABELS).label
    others = tuple(label for label in LABELS if label != best)
    [record] = ClassifyJob(classifier, others, background=(best,)).label(clips[:1])
    assert (record["label"], record["predictions"][0]["label"]) == ("none of these", best)


def test_options_that_change_records_change_the_identity_of_a_job(classifier, clip_folder):
    half = Classifier.load(clip_folder, dtype=torch.bfloat16)
    half.name = classifier.name
    weights, frames, templates, words = (copy.deepcopy(classifier) for _ in range(4))
    with torch.no_grad():
        next(weights.model.parameters()).view(-1)[-1] += 1e-3
    frames.video_processor.image_mean = [0.5, 0.5, 0.5]
    templates.processor.templates = ["{} is seen"]
    words.processor.tokenizer.add_tokens("moonwalk")
    jobs = [
        *(ClassifyJob(each, LABELS) for each in (classifier, weights, frames, templates, words)),
        ClassifyJob(classifier, LABELS, threshold=0.5),
        ClassifyJob(classifier, LABELS, background=("x",)),
        ClassifyJob(half, LABELS),
        SpanJob(classifier, LABELS),
        SpanJob(classifier, LABELS, min_seconds=1.0),
        SpanJob(weights, LABELS),
        ClassifyJob(classifier, LABELS, batch_size=2),
        ClassifyJob(classifier, LABELS, top_k=2),
        ClassifyJob(classifier, LABELS[:-1]),
    ]
    assert len({job.identity for job in jobs}) == len(jobs)
    again = Classifier.load(clip_folder)  # wherever the model lies, and whatever it is called
    assert ClassifyJob(again, LABELS, batch_size=1).identity == jobs[0].identity


def test_a_record_identifies_its_file(classifier, clips, tmp_path):
    video = tmp_path / "a.mp4"
    video.write_bytes(Path(clips[0]).read_bytes())
    [record] = ClassifyJob(classifier, LABELS).label([str(video)])
    state = video.stat()
    assert record["file"] == {"bytes": state.st_size, "changed": state.st_mtime_ns}
    for job in (ClassifyJob(classifier, LABELS, digest=True), SpanJob(classifier, LABELS, digest=True)):
        [record] = job.label([str(video)])
        assert record["file"] == {"sha256": hashlib.sha256(video.read_bytes()).hexdigest()}


def test_explanations_do_not_depend_on_the_batch_size(classifier, clips):
    one, many = (list(ClassifyJob(classifier, LABELS, explain=True, batch_size=n).label(clips[:3])) for n in (1, 3))
    saliency = [[weight for record in r for weight in record["saliency"]["red circle"]] for r in (one, many)]
    assert saliency[1] == pytest.approx(saliency[0], abs=2e-4)


def test_isolated_decoding_gives_the_same_records_and_a_crash_is_an_error_record(classifier, clips, monkeypatch):
    expected = list(ClassifyJob(classifier, LABELS).label(clips))
    job = ClassifyJob(classifier, LABELS, isolate=True)
    assert list(job.label(clips)) == expected
    monkeypatch.setattr(Classifier, "reader", sys.exit)
    records = list(job.label(clips[:2]))
    assert [record["error"]["type"] for record in records] == ["VideoDecodeError"] * 2
    assert "ended the process" in records[0]["error"]["message"]
