"""Frames that a compiled encoder encodes."""

import shutil

import pytest
import torch
from packaging.version import Version

from kinoclip import BikeConfig, BikeModel, Classifier
from kinoclip.inference.backends import load_recognizer
from kinoclip.inference.batch_job import ClassifyJob
from kinoclip.inference.encoding import compile_frames, encode_on_cores

pytestmark = pytest.mark.skipif(Version(torch.__version__) < Version("2.7"), reason="needs torch 2.7")
LABELS = ("red circle", "blue square", "green star")


@pytest.fixture
def eager(monkeypatch):
    """Trace without the minutes of a C++ build; the shapes of each call."""
    calls, compile = [], torch.compile

    def trace(function, **options):
        traced = compile(function, backend="eager", dynamic=options.get("dynamic"))
        return lambda *inputs: calls.append([tuple(each.shape) for each in inputs]) or traced(*inputs)

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", trace)
    return calls


def pixels(model, videos):
    size = model.config.vision_config.image_size
    return torch.randn(videos, 2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_batches_are_compiled_for_powers_of_two(bike_folder, eager):
    model = load_recognizer(bike_folder)[0]
    expected = encode_on_cores(model, pixels(model, 5)).embeds
    compile_frames(model)
    for videos in (1, 3, 4, 5):
        found = encode_on_cores(model, pixels(model, 5)[:videos]).embeds
        torch.testing.assert_close(found, expected[:videos], atol=1e-5, rtol=1e-4)
    assert [shapes[0][0] for shapes in eager[1:]] == [1, 4, 4, 8]


def test_records_of_a_compiled_model_belong_to_another_job(bike_folder, eager):
    compiled, plain = (Classifier.load(bike_folder, compile=each) for each in (True, False))
    groups = zip(*(ClassifyJob(one, LABELS).identity.split("-") for one in (compiled, plain)), strict=True)
    assert [one == other for one, other in groups] == [True, True, False, True, True]  # the third is the backend


def test_an_explanation_reads_the_encoder_that_is_not_compiled(bike_folder, video_path, eager):
    answers = [
        Classifier.load(bike_folder, compile=each).classify(video_path, LABELS, explain=True) for each in (True, False)
    ]
    torch.testing.assert_close(answers[0].attention, answers[1].attention, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino-int8"])
def test_a_backend_other_than_torch_is_refused(backend, bike_folder):
    with pytest.raises(ValueError, match=f"with the backend {backend}. Leave compile out"):
        load_recognizer(bike_folder, backend=backend, compile=True)


def test_a_machine_without_a_compiler_is_named(bike_folder, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("No working C++ compiler found in /usr/bin\nand a long trace")

    monkeypatch.setattr(torch, "compile", lambda function, **_: fail)
    with pytest.raises(ValueError, match=r"g\+\+ or clang.*leave compile out \(No working C\+\+ compiler found"):
        load_recognizer(bike_folder, device="cpu", compile=True)


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_code_encodes_as_torch_does(tiny_fields):
    torch._dynamo.reset()
    one_layer = {**tiny_fields, "vision_config": {**tiny_fields["vision_config"], "num_hidden_layers": 1}}
    model = BikeModel(BikeConfig(**one_layer)).eval()
    expected = encode_on_cores(model, pixels(model, 1)).embeds
    compile_frames(model)
    torch.testing.assert_close(encode_on_cores(model, pixels(model, 1)).embeds, expected, atol=1e-5, rtol=1e-5)
