import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from huggingface_hub import constants

from kinoclip import AltModel, AltProcessor, Classifier
from kinoclip.export import graphs, writing
from kinoclip.export.manifest import MANIFEST
from kinoclip.inference.backends import load_recognizer
from kinoclip.inference.batch_job import ClassifyJob
from kinoclip.kinoshapes import kinoshapes_clips

LABELS = ("red circle", "blue square", "green star")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_onnxruntime_gives_the_answers_of_torch_and_exports_once(bike_folder, video_path, monkeypatch, home):
    pytest.importorskip("onnxruntime")
    torch_answer = Classifier.load(bike_folder).classify(video_path, LABELS)
    onnx_answer = Classifier.load(bike_folder, backend="onnxruntime").classify(video_path, LABELS)
    assert onnx_answer.label == torch_answer.label
    assert [p.probability for p in onnx_answer] == pytest.approx([p.probability for p in torch_answer], abs=1e-5)
    assert len(list((home / "kinoclip" / "onnx").iterdir())) == 1

    monkeypatch.setattr(writing, "export_recognizer", None)
    again = Classifier.load(bike_folder, backend="onnxruntime")
    assert again.classify(video_path, LABELS).label == torch_answer.label
    # answers may differ in the last digit, so the records of one never continue those of the other
    assert ClassifyJob(again, LABELS).identity != ClassifyJob(Classifier.load(bike_folder), LABELS).identity


def test_onnxruntime_int8_exports_in_8_bits_into_a_folder_of_its_own(bike_folder, home, monkeypatch):
    exported = []
    monkeypatch.setattr(writing, "export_recognizer", lambda *a, **options: exported.append((a[2], options)) or ())
    with pytest.raises(FileNotFoundError):  # nothing was written
        load_recognizer(bike_folder, backend="onnxruntime-int8")
    [(folder, options)] = exported
    assert options["dtype"] == "int8"
    assert folder.parent == home / "kinoclip" / "onnx"
    assert folder.name.endswith("-int8")


def test_openvino_gives_the_answers_of_torch_and_shares_the_export_but_no_records(bike_folder, video_path, home):
    pytest.importorskip("openvino")
    torch_answer = Classifier.load(bike_folder).classify(video_path, LABELS)
    classifiers = [Classifier.load(bike_folder, backend=backend) for backend in ("onnxruntime", "openvino")]
    answer = classifiers[1].classify(video_path, LABELS)
    assert [p.label for p in answer] == [p.label for p in torch_answer]
    # bfloat16 where that is faster
    assert [p.probability for p in answer] == pytest.approx([p.probability for p in torch_answer], abs=0.02)
    assert len(list((home / "kinoclip" / "onnx").iterdir())) == 1
    assert len({ClassifyJob(classifier, LABELS).identity for classifier in classifiers}) == 2


@pytest.mark.parametrize("vnni", [True, False])
def test_openvino_in_8_bits_answers_many_threads_as_one(vnni, clip_folder, home, monkeypatch, caplog, capsys):
    pytest.importorskip("nncf")
    if not vnni:  # otherwise the processor decides
        monkeypatch.setattr(graphs, "has_vnni", lambda: False)
    classifier = Classifier.load(clip_folder, backend="openvino-int8")
    assert [path.suffix for path in (home / "kinoclip" / "onnx").rglob("frames.*")] == [".xml", ".bin"]
    assert (capsys.readouterr().out, caplog.handler.level, logging.root.manager.disable) == ("", 0, 0)
    classifier.set_labels(LABELS)
    samples = [classifier.read(clip.frames) for clip in kinoshapes_clips(6, seed=1)] * 4
    expected = [classifier.answer(sample).predictions for sample in samples]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda sample: classifier.answer(sample).predictions, samples)) == expected


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"device": "cuda"}])
def test_onnxruntime_computes_on_the_cpu_in_its_own_dtype(bike_folder, options):
    with pytest.raises(ValueError, match=r"on the CPU in its own dtype\. Leave device and dtype out"):
        load_recognizer(bike_folder, backend="onnxruntime", **options)


def test_an_export_keeps_its_corpus_and_a_backend_exports_each_corpus_once(clip_folder, tmp_path, home, monkeypatch):
    model = AltModel.from_clip(clip_folder, merge_r=2, decoder_layers=1)
    processor = AltProcessor.from_clip(clip_folder, model.config)
    model.set_corpus(["a circle", "a square"], processor=processor).save_pretrained(tmp_path / "alt")
    processor.save_pretrained(tmp_path / "alt")
    folders = []
    monkeypatch.setattr(writing, "export_recognizer", lambda *a, **options: folders.append(a[2]) or ())
    for corpus in (None, "hmdb51", ["hmdb51", "ucf101"]):
        with pytest.raises(FileNotFoundError):  # nothing was written
            load_recognizer(tmp_path / "alt", backend="onnxruntime", corpus=corpus)
    assert len(set(folders)) == 3

    (tmp_path / "export").mkdir()
    (tmp_path / "export" / MANIFEST).write_text("{}")
    with pytest.raises(
        ValueError,
        match=r"with fixed dtype, branches, settings and corpus\. Leave device, dtype, attributes, settings and",
    ):
        load_recognizer(tmp_path / "export", corpus="hmdb51")


def test_an_unknown_backend_is_named(bike_folder):
    known = "torch, onnxruntime, onnxruntime-int8, openvino, openvino-int8"
    with pytest.raises(ValueError, match=f"must be one of {known}, got 'tensorrt'"):
        load_recognizer(bike_folder, backend="tensorrt")
