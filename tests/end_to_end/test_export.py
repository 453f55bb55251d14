"""`kinoclip export` as a person uses it, and what it wrote in a process that has no model."""

import json
import subprocess
import sys

import pytest
import torch

from kinoclip import BikeConfig, BikeModel, BikeProcessor
from kinoclip.cli import main

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

LABELS = ["red circle", "blue square", "green star"]
USE = """
import sys
from kinoclip import Classifier
from kinoclip.export import load_exported

video, folder = sys.argv[1:]
answer = Classifier(*load_exported(folder)).classify(video)
print(answer.label, answer.predictions[0].probability)
"""


@pytest.fixture(scope="module")
def model(tiny_fields, tokenizer, tmp_path_factory):
    """The folder of a tiny BIKE that carries labels."""
    folder = tmp_path_factory.mktemp("models") / "bike"
    torch.manual_seed(0)
    model = BikeModel(BikeConfig(**{**tiny_fields, "temporal_head": "none"})).eval()
    processor = BikeProcessor.for_config(model.config, tokenizer)
    with torch.no_grad():
        model.set_candidates(LABELS, model.encode_text(**processor(text=LABELS)))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The same as one graph of ONNX; the README has one in parts."""
    folder = tmp_path_factory.mktemp("exports") / "bike"
    assert main(["export", model, "--output", str(folder), "--fused"]) == 0
    return folder


def test_classify_takes_an_export_as_a_model(model, exported, video_path, capsys):
    answers = []
    for folder in (model, str(exported)):
        assert main(["classify", str(video_path), "--model", folder]) == 0
        answers.append(json.loads(capsys.readouterr().out)["predictions"])

    assert [found["label"] for found in answers[0]] == [found["label"] for found in answers[1]]
    assert answers[0][0]["probability"] == pytest.approx(answers[1][0]["probability"], abs=1e-4)


def test_an_export_answers_in_another_process_as_the_model_does(model, exported, video_path, capsys):
    assert main(["classify", str(video_path), "--model", model]) == 0
    wanted = json.loads(capsys.readouterr().out)["predictions"][0]

    command = [sys.executable, "-c", USE, str(video_path), str(exported)]
    label, probability = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rsplit(" ", 1)

    assert label == wanted["label"]
    assert float(probability) == pytest.approx(wanted["probability"], abs=1e-5)


def test_the_graph_is_that_of_the_manifest_to_any_runtime(model, exported):
    import onnx

    manifest = json.loads((exported / "export.json").read_text())
    said = manifest["graphs"]["video"]
    graph = onnx.load(exported / said["file"]).graph
    onnx.checker.check_model(exported / said["file"])

    for values, tensors in ((graph.input, said["inputs"]), (graph.output, said["outputs"])):
        sizes = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in values]
        assert [value.name for value in values] == [tensor["name"] for tensor in tensors]
        assert sizes == [tensor["dims"] for tensor in tensors]
    assert manifest["source"] == model
    assert manifest["difference"]["logits"] < 1e-4
    assert set(manifest["versions"]) == {"kinoclip", "torch", "transformers", "onnx", "onnxruntime"}


def test_an_export_is_compared_again_without_being_written(model, exported, capsys):
    before = (exported / "export.json").stat().st_mtime_ns
    assert main(["export", model, "--output", str(exported), "--check"]) == 0
    assert "largest difference to the model" in capsys.readouterr().out
    assert (exported / "export.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "frames,tail"], "no part 'tail'"),
        (["--frames", "0"], "Look at one frame at least"),
        (["--dtype", "bfloat16"], "not written in bfloat16"),
        (["--fused"], "needs labels that the model carries"),
        (["--check"], "There is no export"),
    ],
)
def test_wrong_use_is_told_in_one_line(arguments, message, tmp_path, capsys):
    assert main(["export", "mini", "--output", str(tmp_path / "export"), *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []
