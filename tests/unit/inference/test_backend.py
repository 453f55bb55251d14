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


def test_onnxruntime_in_8_bits_encodes_frames_nearly_alike_and_text_as_before(bike_folder, home):
    pytest.importorskip("onnxruntime")
    whole, processor = load_recognizer(bike_folder)
    small, _ = load_recognizer(bike_folder, backend="onnxruntime-int8")
    assert next((home / "kinoclip" / "onnx").iterdir()).name.endswith("-int8")
    generator = torch.Generator().manual_seed(0)
    size = processor.video_processor.crop_size["height"]
    pixels = torch.randn(2, 3, 3, size, size, generator=generator)
    ids = processor(text=list(LABELS))
    with torch.inference_mode():
        frames = whole.encode_frames(pixels).embeds
        off = (small.encode_frames(pixels).embeds - frames).abs().max()
        torch.testing.assert_close(
            small.encode_text(**ids).embeds, whole.encode_text(**ids).embeds, atol=1e-5, rtol=1e-4
        )
    # steps of 1/255, several in a row
    assert 1e-5 < off / frames.abs().max() < 0.1


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"device": "cuda"}])
def test_onnxruntime_computes_on_the_cpu_in_its_own_dtype(bike_folder, options):
    with pytest.raises(ValueError, match=r"on the CPU in its own dtype\. Leave device and dtype out"):
        load_recognizer(bike_folder, backend="onnxruntime", **options)


def test_an_unknown_backend_is_named(bike_folder):
    with pytest.raises(ValueError, match=r"no backend 'openvino'\. Choose torch, onnxruntime, onnxruntime-int8"):
        load_recognizer(bike_folder, backend="openvino")
