import pytest
import torch
from huggingface_hub import constants

from kinoclip import Classifier
from kinoclip.export import writing
from kinoclip.inference.jobs import Job
from kinoclip.inference.loading import load_recognizer

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
    assert Job(again, LABELS).identity != Job(Classifier.load(bike_folder), LABELS).identity


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"device": "cuda"}])
def test_onnxruntime_computes_on_the_cpu_in_float32(bike_folder, options):
    with pytest.raises(ValueError, match=r"on the CPU in float32\. Leave device and dtype out"):
        load_recognizer(bike_folder, backend="onnxruntime", **options)


def test_an_unknown_backend_is_named(bike_folder):
    with pytest.raises(ValueError, match=r"no backend 'openvino'\. Choose torch or onnxruntime"):
        load_recognizer(bike_folder, backend="openvino")
