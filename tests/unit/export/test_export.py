"""Every method as ONNX graphs: the same logits as the model, for sizes other than those of the trace; and clear refusals."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch

import kinoclip
from kinoclip import Classifier
from kinoclip.cli import main
from kinoclip.export import export_recognizer, graphs, load_exported
from kinoclip.export.exported import _trim_padding
from kinoclip.export.manifest import MANIFEST, read_manifest
from kinoclip.export.writing import compare_export
from kinoclip.inference.backends import load_recognizer
from kinoclip.inference.encoding import encode_on_cores
from kinoclip.inference.spans import find_spans
from kinoclip.methods import METHODS
from kinoclip.modeling.outputs import FrameFeatures

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

LABELS = ["walking", "a green star", "jumping over a fence", "sleeping", "waving"]
# The text tower of all methods is CLIP's: one method that reads every word and one with several templates are enough.
WITH_TEXT = ("bike", "actionclip")
LAYER = {"num_hidden_layers": 1}  # tracing takes seconds per layer
RESNET = {
    "block": "basic",
    "stage_blocks": [1, 1, 1, 1],
    "stage_widths": [4, 4, 8, 8],
    "stem_width": 4,
    "image_size": 32,
    "num_frames": 4,
    "id2label": {0: "running", 1: "jumping", 2: "diving"},
}
FIELDS = {
    "bike": {"temporal_layers": 1},
    "text4vis": {"temporal_head": "none", "temporal_shift": "tsm"},
    "actionclip": {"temporal_layers": 1},
    "alt": {"merge_r": 1, "decoder_layers": 1},
    "dstpr": {},
    "xclip": {"num_frames": 5},
    "sllm": {"recognizer": "text4vis", "rate": 2, "restorer_layers": 1, "temporal_head": "none"},
}


@dataclass(frozen=True)
class Export:
    """A recognizer, its processor, its export as folder and as loaded, and the lines printed while it was written."""

    model: Any
    processor: Any
    folder: Path
    recognizer: Any
    lines: list[str]


@pytest.fixture(scope="module")
def make(tiny_fields, tokenizer):
    """A function that builds a tiny recognizer of a method and its processor."""
    towers = {name: {**tiny_fields[name], **LAYER} for name in ("text_config", "vision_config")}
    fields = {**towers, "projection_dim": 32, "num_frames": 4}

    def build(method, **changes):
        torch.manual_seed(0)
        if method == "tam":
            config = kinoclip.TamConfig(**RESNET)
            return kinoclip.TamModel(config).eval(), kinoclip.TamProcessor.for_config(config, None)
        classes, own = METHODS[method], {**FIELDS[method], **changes}
        if method == "sllm":
            towers_only = {name: fields[name] for name in (*towers, "projection_dim")}
            config = classes.config.from_clip_fields(towers_only, **own)
        else:
            config = classes.config(**{**fields, **own})
        model = classes.model(config).eval()
        if method == "alt" and config.aligns:
            model.set_corpus(["an arm", "a ball", "water"], torch.randn(3, 32))
        options = {"templates": ["{}", "a video of {}."]} if method == "actionclip" else {}
        return model, classes.processor.for_config(config, tokenizer, **options)

    return build


@pytest.fixture(scope="module")
def export(make, tmp_path_factory):
    """A function that exports a tiny recognizer of a method, once for the same arguments."""
    done = {}

    def write(method, parts=None, dtype="float32"):
        key = method, parts, dtype
        if key not in done:
            model, processor = make(method)
            folder = tmp_path_factory.mktemp("export") / "new"
            lines = list(export_recognizer(model, processor, folder, parts=parts, dtype=dtype, source="tiny"))
            done[key] = Export(model, processor, folder, load_exported(folder)[0], lines)
        return done[key]

    return write


@pytest.fixture(scope="module", params=sorted(METHODS))
def exported(request, export):
    return export(request.param, None if request.param in WITH_TEXT else ("frames", "head"))


@pytest.fixture(scope="module")
def bike(export):
    return export("bike")


@pytest.fixture(scope="module")
def fused(make, tmp_path_factory):
    """A model with labels of its own, and the folder of its single graph."""
    model, processor = make("bike")
    with torch.no_grad():
        model.set_candidates(LABELS[:3], model.encode_text(**processor(text=LABELS[:3])))
    folder = tmp_path_factory.mktemp("fused") / "export"
    list(export_recognizer(model, processor, folder, fused=True))
    return model, folder


@torch.no_grad()
@pytest.mark.parametrize(("videos", "num_frames", "labels"), [(5, 3, 5), (1, 4, 1)])
def test_an_export_returns_the_logits_of_its_model(exported, videos, num_frames, labels):
    model, recognizer = exported.model, exported.recognizer
    num_frames = 4 if model.config.model_type == "kinoclip_dstpr" else num_frames
    if model.config.reads_text:
        inputs = exported.processor(text=LABELS[:labels])
        text = graph_text = model.encode_text(**inputs)
        if "text" in recognizer.graphs:
            graph_text = recognizer.encode_text(**inputs)
    else:
        text, graph_text = model.candidates(), recognizer.candidates()
    pixels = torch.randn(videos, num_frames, 3, 32, 32, generator=torch.Generator().manual_seed(9))

    expected = model(pixel_values_videos=pixels, text_features=text)
    actual = recognizer(pixel_values_videos=pixels, text_features=graph_text)

    # the graph computes the same operations in another order; logits are up to 20
    torch.testing.assert_close(actual.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(actual.votes["video"], expected.votes["video"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(actual.video_embeds, expected.video_embeds, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_openvino_encodes_the_frames_of_every_method(exported):
    pytest.importorskip("openvino")
    num_frames = 4 if exported.model.config.model_type == "kinoclip_dstpr" else 3
    pixels = torch.randn(2, num_frames, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    expected = exported.recognizer.encode_frames(pixels).embeds
    actual = load_exported(exported.folder, "openvino")[0].encode_frames(pixels).embeds
    # in bfloat16 where that is faster
    assert torch.cosine_similarity(actual, expected, dim=-1).min() > 0.999


@torch.no_grad()
def test_openvino_encodes_parts_of_videos_in_parallel(exported):
    pytest.importorskip("openvino")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        recognizer = load_exported(exported.folder, "openvino")[0]
        pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(9))
        encoded = encode_on_cores(recognizer, pixels).embeds
    finally:
        torch.set_num_threads(before)
    assert recognizer.encodes_frames_alone is exported.model.encodes_frames_alone
    assert recognizer.computes_in_parallel
    assert not exported.recognizer.computes_in_parallel  # in ONNX Runtime
    torch.testing.assert_close(encoded, recognizer.encode_frames(pixels).embeds, atol=1e-2, rtol=1e-2)


@torch.no_grad()
def test_the_first_request_to_openvino_runs_alone(bike, monkeypatch):
    openvino = pytest.importorskip("openvino")
    events, pause = [], partial(time.sleep, 0.2)

    class Request(openvino.InferRequest):
        def infer(self, feeds):
            events.append("begins")
            pause()
            results = super().infer(feeds)
            events.append("ends")
            return results

    monkeypatch.setattr("openvino._ov_api.InferRequest", Request)
    recognizer, pixels = load_exported(bike.folder, "openvino")[0], torch.zeros(1, 3, 3, 32, 32)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(recognizer.encode_frames, [pixels, pixels]))
        assert events[:2] == ["begins", "ends"]
        pause = Barrier(2, timeout=60).wait  # each later request waits until another one has begun
        list(threads.map(recognizer.encode_frames, [pixels, pixels]))


def test_a_graph_that_openvino_cannot_compile_is_named(bike, monkeypatch):
    openvino = pytest.importorskip("openvino")

    class Core(openvino.Core):
        def compile_model(self, *_):
            raise RuntimeError("no such operation\nin line 7")

    monkeypatch.setattr(openvino, "Core", Core)
    recognizer = load_exported(bike.folder, "openvino")[0]
    with pytest.raises(ValueError, match=r"frames.onnx could not be compiled by OpenVINO: no such operation\.$"):
        recognizer.encode_frames(torch.zeros(1, 3, 3, 32, 32))


@torch.no_grad()
def test_openvino_computes_in_float32_where_bfloat16_is_slower(bike, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(graphs, "is_bf16_faster", lambda device: False)
    pixels = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    expected = bike.recognizer.encode_frames(pixels).embeds
    actual = load_exported(bike.folder, "openvino")[0].encode_frames(pixels).embeds
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_an_export_reports_its_difference_and_whether_it_fixes_the_number_of_frames(exported):
    manifest, is_fixed = exported.recognizer.manifest, exported.model.config.model_type == "kinoclip_dstpr"
    assert any(line.startswith("largest difference to the model") for line in exported.lines)
    assert set(manifest.difference) == set(manifest.graphs) - {"head"} | {"logits"}
    assert max(manifest.difference.values()) < 1e-4
    assert ("frames: exactly 4, fixed by this model" in exported.lines) == is_fixed
    assert ("frames" not in manifest.graphs["frames"].limits) == is_fixed


def test_a_manifest_describes_its_graphs_for_other_runtimes(bike):
    manifest = json.loads((bike.folder / MANIFEST).read_text())
    for spec in manifest["graphs"].values():
        graph = onnx.load(bike.folder / spec["file"]).graph
        onnx.checker.check_model(bike.folder / spec["file"])
        for values, tensors in ((graph.input, spec["inputs"]), (graph.output, spec["outputs"])):
            sizes = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in values]
            assert [value.name for value in values] == [tensor["name"] for tensor in tensors]
            assert sizes == [tensor["dims"] for tensor in tensors]
    assert manifest["source"] == "tiny"
    assert set(manifest["versions"]) == {"kinoclip", "torch", "transformers", "onnx", "onnxruntime"}


def test_sizes_that_a_graph_does_not_accept_are_refused(bike, export):
    with pytest.raises(ValueError, match=r"shape \(batch, frames, 3, 32, 32\), got \(1, 4, 3, 48, 48\)"):
        bike.recognizer.encode_frames(torch.zeros(1, 4, 3, 48, 48))
    with pytest.raises(ValueError, match=r"shape \(batch, 4, 3, 32, 32\), got \(1, 5"):
        export("dstpr", ("frames", "head")).recognizer.encode_frames(torch.zeros(1, 5, 3, 32, 32))
    sllm = export("sllm", ("frames", "head")).recognizer  # restores what lies between two frames
    assert sllm.encode_frames(torch.zeros(1, 2, 3, 32, 32)).embeds.shape == (1, 3, 32)
    with pytest.raises(ValueError, match="frames from 2"):
        sllm.encode_frames(torch.zeros(1, 1, 3, 32, 32))


@torch.no_grad()
def test_many_labels_are_encoded_in_chunks_without_their_padding(export):
    written = export("actionclip")
    assert written.recognizer.manifest.graphs["text"].limits["labels"] == (1, 32)  # two templates, 64 texts per call
    inputs = written.processor(text=[f"a star {number}" for number in range(70)])
    assert _trim_padding(dict(inputs))["input_ids"].shape[-1] < inputs["input_ids"].shape[-1] == 77

    embeds = written.recognizer.encode_text(**inputs).embeds

    assert embeds.shape == (2, 70, 32)
    torch.testing.assert_close(embeds, written.model.encode_text(**inputs).embeds, atol=1e-5, rtol=1e-4)


def test_8_bits_are_smaller_and_report_their_difference(export):
    float32, int8 = export("text4vis", ("frames", "head")), export("text4vis", ("frames",), "int8")
    assert (int8.folder / "frames.onnx").stat().st_size < 0.9 * (float32.folder / "frames.onnx").stat().st_size
    # 8 bits of a weight: steps of 1/256, several in a row
    assert 1e-4 < int8.recognizer.manifest.difference["frames"] < 0.1


def test_a_classifier_answers_as_with_the_model(bike, video_path):
    ours = Classifier(bike.model, bike.processor)
    theirs = Classifier(*load_exported(bike.folder))
    expected, actual = (classifier.classify(video_path, LABELS) for classifier in (ours, theirs))
    assert [prediction.label for prediction in actual] == [prediction.label for prediction in expected]
    assert [p.probability for p in actual] == pytest.approx([p.probability for p in expected], abs=1e-5)
    expected, actual = (find_spans(video_path, classifier, LABELS, threshold=0) for classifier in (ours, theirs))
    assert [(s.start_seconds, s.label) for s in actual] == [(s.start_seconds, s.label) for s in expected]
    with pytest.raises(ValueError, match="cannot explain"):
        theirs.classify(video_path, LABELS, explain=True)


def test_an_export_does_not_train(bike):
    with pytest.raises(TypeError, match="does not use labels"):
        bike.recognizer(pixel_values_videos=torch.zeros(1, 4, 3, 32, 32), labels=torch.zeros(1))


def test_a_missing_part_is_named(export):
    written = export("text4vis", ("frames", "head"))
    with pytest.raises(ValueError, match="no graph 'text', which encodes labels; it has frames, head"):
        written.recognizer.encode_text(**written.processor(text=LABELS))


@torch.no_grad()
def test_one_graph_answers_for_its_own_labels_only(fused, video_path):
    model, folder = fused
    recognizer, processor = load_exported(folder)
    pixels = torch.randn(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    actual = recognizer(pixel_values_videos=pixels).logits
    torch.testing.assert_close(actual, model(pixels).logits, atol=1e-4, rtol=1e-4)
    answer = Classifier(recognizer, processor).classify(video_path)
    assert {prediction.label for prediction in answer} == set(LABELS[:3])
    with pytest.raises(ValueError, match="Leave other labels out"):
        recognizer(pixel_values_videos=pixels, **processor(text=["yellow heart"]))


@pytest.mark.parametrize("content", [b"no tensors", None])
def test_labels_that_are_missing_or_damaged_are_an_error(fused, tmp_path, content):
    folder = shutil.copytree(fused[1], tmp_path / "copied")
    (folder / "candidates.safetensors").unlink()
    if content:
        (folder / "candidates.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"does not hold the labels of config\.json"):
        load_exported(folder)


@torch.no_grad()
def test_attributes_and_chinese_names_vote_in_an_export(make, tmp_path):
    chinese = {
        "vocab_size": 30,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 1,
        "pad_token_id": 0,
    }
    model, processor = make(
        "text4vis", attributes="shared", chinese_branch=True, chinese_text_config={**chinese, **LAYER}
    )
    list(export_recognizer(model, processor, tmp_path / "export", parts=["text", "head"]))
    recognizer, _ = load_exported(tmp_path / "export")
    inputs = {
        "frame_features": FrameFeatures(torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(2))),
        **processor(text=LABELS),
        "chinese_input_ids": torch.randint(1, 30, (1, 5, 52), generator=torch.Generator().manual_seed(3)),
        "attribute_input_ids": processor.encode_attributes([["red"], ["moving"]]),
    }
    expected, actual = model(**inputs), recognizer(**inputs)
    assert set(actual.votes) == {"video", "chinese", "attributes"}
    torch.testing.assert_close(actual.logits, expected.logits, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="pass the Chinese names of all labels"):
        recognizer.encode_text(**processor(text=LABELS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "torch"}, r"must be 'onnx', got 'torch'. Exports of torch.export \(.pt2\) are not supported"),
        ({"dtype": "bfloat16"}, "must be one of float32, int8, openvino-int8, got 'bfloat16'"),
        ({"parts": ["frames", "tail"]}, "must be of frames, text, head, got 'tail'"),
        ({"parts": []}, "must be of frames, text, head, got none"),
        ({"parts": ["head"], "fused": True}, "Leave out either fused or parts"),
        ({"fused": True}, "needs labels stored in the model"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
    ],
)
def test_invalid_arguments_are_refused(options, message, make, tmp_path):
    with pytest.raises(ValueError, match=message):
        list(export_recognizer(*make("bike"), tmp_path / "export", **options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "change", "parts", "message"),
    [
        ("bike", lambda model: model.bfloat16(), None, "must be in float32 on the CPU, got torch.bfloat16"),
        ("tam", lambda model: model, ["text"], "cannot encode text"),
        ("bike", lambda model: model.drop_text_tower(), ["head"], "has no candidates and cannot encode text"),
    ],
)
def test_models_that_cannot_be_exported_are_refused(method, change, parts, message, make, tmp_path):
    model, processor = make(method)
    with pytest.raises(ValueError, match=message):
        list(export_recognizer(change(model), processor, tmp_path / "export", parts=parts))
    assert list(tmp_path.iterdir()) == []


def test_alt_without_a_corpus_is_refused(make, tmp_path):
    model, processor = make("alt")
    model.config.corpus = None
    with pytest.raises(ValueError, match=r"[Ss]et one"):
        list(export_recognizer(model, processor, tmp_path / "export", parts=["head"]))


def test_a_stage_that_cannot_be_traced_is_named(make, tmp_path, monkeypatch):
    model, processor = make("bike")
    # a branch on the data, of which a graph holds one side only
    monkeypatch.setattr(
        type(model), "match", lambda self, video, text: video[..., 0] if video.sum() > 0 else video[..., 1]
    )
    with pytest.raises(ValueError, match="The part head of this BikeModel cannot be traced"):
        list(export_recognizer(model, processor, tmp_path / "export", parts=["head"]))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_refused(make, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not an empty folder"):
        list(export_recognizer(*make("bike"), tmp_path))


def test_a_missing_library_is_named(make, tmp_path, monkeypatch):
    monkeypatch.setattr("kinoclip.export.graphs.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs onnx. Run `pip install 'kinoclip\[export\]'`"):
        list(export_recognizer(*make("bike"), tmp_path / "export"))


def test_a_different_or_interrupted_export_leaves_nothing(make, tmp_path, monkeypatch):
    lines = export_recognizer(*make("tam"), tmp_path / "export", parts=["head"])
    next(lines)
    lines.close()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("kinoclip.export.writing.TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="The graphs differ from the model"):
        list(export_recognizer(*make("tam"), tmp_path / "export", parts=["head"]))
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_compared_with_its_model_again(make, bike):
    assert [line[:30] for line in compare_export(bike.model, bike.processor, bike.folder)] == [
        "largest difference to the mode"
    ]
    model, processor = make("bike")
    with torch.no_grad():
        model.visual_projection.weight *= 1.5
    with pytest.raises(RuntimeError, match="differ from the model"):
        list(compare_export(model, processor, bike.folder))
    with pytest.raises(ValueError, match="was exported from a kinoclip_bike model, got a kinoclip_text4vis model"):
        list(compare_export(*make("text4vis"), bike.folder))


def test_the_command_passes_options_on(bike, tmp_path, capsys):
    assert main(["export", "mini", "--output", str(tmp_path / "export"), "--parts", "frames,tail"]) == 2
    assert "must be of frames, text, head, got 'tail'" in capsys.readouterr().err
    bike.model.save_pretrained(tmp_path / "bike")
    bike.processor.save_pretrained(tmp_path / "bike")
    assert main(["export", str(tmp_path / "bike"), "--output", str(bike.folder), "--check"]) == 0
    assert "largest difference to the model" in capsys.readouterr().out


@pytest.fixture
def copied(bike, tmp_path):
    """An export to damage."""
    return shutil.copytree(bike.folder, tmp_path / "copied")


def change_manifest(folder, **changes):
    fields = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**fields, **changes}))


def test_a_folder_that_is_not_an_export_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is not an export: it has no export\.json"):
        load_exported(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_exported(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", ["no json", "[]", "{}", '{"kinoclip_export": 1}', '{"kinoclip_export": 1, "graphs": 3}']
)
def test_a_damaged_manifest_is_refused(text, tmp_path):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match="is not a valid manifest"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinoclip_export": 2}, "has layout 2; this version reads layout 1"),
        ({"format": "torch"}, "has the format 'torch'; this version reads onnx only"),
        ({"method": "kinoclip_alt"}, "has the model type 'kinoclip_bike', but the graphs have 'kinoclip_alt'"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(changes, message, copied):
    change_manifest(copied, **changes)
    with pytest.raises(ValueError, match=message):
        load_exported(copied)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/passwd", "frames.so"])
def test_a_file_outside_the_folder_is_never_read(name, copied):
    graphs = json.loads((copied / MANIFEST).read_text())["graphs"]
    graphs["frames"]["file"] = name
    change_manifest(copied, graphs=graphs)
    with pytest.raises(ValueError, match="is not a file of an export"):
        load_exported(copied)


def test_a_graph_that_is_missing_damaged_or_another_is_named(copied):
    shutil.copy(copied / "text.onnx", copied / "head.onnx")
    with pytest.raises(ValueError, match="is not the graph that its manifest describes"):
        load_exported(copied)
    (copied / "head.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"head\.onnx could not be read"):
        load_exported(copied)
    (copied / "head.onnx").unlink()
    with pytest.raises(ValueError, match=r"incomplete: head\.onnx"):
        load_exported(copied)


@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer.json"])
def test_a_damaged_file_beside_the_graphs_is_named_in_one_line(copied, name):
    (copied / name).write_text("{")
    with pytest.raises(ValueError, match="could not be read") as caught:
        load_exported(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"dtype": torch.bfloat16}, {"attributes": True}])
def test_options_that_an_export_does_not_have_are_refused(copied, options):
    with pytest.raises(ValueError, match=r"is an export, .* Leave device, dtype, attributes, settings and corpus out"):
        load_recognizer(copied, **options)
