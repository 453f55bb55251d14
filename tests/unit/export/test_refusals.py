"""What cannot be exported or read back is refused in words, and leaves nothing behind."""

import json
import shutil

import pytest
import torch

from kinoclip.export import export_recognizer, load_exported
from kinoclip.export.manifest import MANIFEST, read_manifest
from kinoclip.export.writing import compare_export
from kinoclip.inference.loading import load_recognizer


@pytest.fixture
def bike(make):
    return make("bike")


@pytest.fixture
def copied(export, tmp_path):
    """An export to spoil."""
    folder = tmp_path / "copied"
    shutil.copytree(export("bike").folder, folder)
    return folder


def change_manifest(folder, **changes):
    fields = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**fields, **changes}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "'tflite' is unknown. Known: onnx, torch"),
        ({"dtype": "bfloat16"}, "not written in bfloat16: ONNX takes float32 and int8"),
        ({"format": "torch", "dtype": "int8"}, "not written in int8.*torch float32 and bfloat16"),
        ({"parts": ["frames", "tail"]}, "no part 'tail'. Parts: frames, text, head"),
        ({"parts": []}, "no part"),
        ({"parts": ["head"], "fused": True}, "Leave one of the two out"),
        ({"format": "torch", "fused": True}, "needs labels that the model carries"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(options, message, bike, tmp_path):
    with pytest.raises(ValueError, match=message):
        list(export_recognizer(*bike, tmp_path / "export", **options))
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_dtype_is_refused(bike, tmp_path):
    model, processor = bike
    with pytest.raises(ValueError, match="Load it in float32 on the CPU"):
        list(export_recognizer(model.bfloat16(), processor, tmp_path / "export"))


def test_a_folder_that_holds_something_is_left_alone(bike, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is no empty folder"):
        list(export_recognizer(*bike, tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_missing_library_is_named_with_how_to_install_it(bike, tmp_path, monkeypatch):
    monkeypatch.setattr("kinoclip.export.graphs.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"need onnx. `pip install 'kinoclip\[export\]'`"):
        list(export_recognizer(*bike, tmp_path / "export"))


def test_a_model_without_text_has_no_part_for_it(make, tmp_path):
    with pytest.raises(ValueError, match="cannot read text here"):
        list(export_recognizer(*make("tam"), tmp_path / "export", format="torch", parts=["text"]))


def test_a_model_without_text_and_labels_has_nothing_to_match(bike, tmp_path):
    model, processor = bike
    with pytest.raises(ValueError, match="carries no labels and cannot read any"):
        list(
            export_recognizer(model.drop_text_tower(), processor, tmp_path / "export", format="torch", parts=["head"])
        )


def test_alt_without_a_corpus_says_how_to_set_one(make, tmp_path):
    model, processor = make("alt")
    model.config.corpus = None
    with pytest.raises(ValueError, match="Set one, such as"):
        list(export_recognizer(model, processor, tmp_path / "export", format="torch", parts=["head"]))


def test_a_stage_that_is_no_graph_is_named(bike, tmp_path, monkeypatch):
    model, processor = bike
    # a branch on the data, of which a graph holds one side only
    monkeypatch.setattr(
        type(model), "match", lambda self, video, text: video[..., 0] if video.sum() > 0 else video[..., 1]
    )
    with pytest.raises(ValueError, match="The part head of this BikeModel cannot be written as a graph"):
        list(export_recognizer(model, processor, tmp_path / "export", format="torch", parts=["head"]))
    assert list(tmp_path.iterdir()) == []


def test_graphs_that_differ_from_the_model_are_not_left(bike, tmp_path, monkeypatch):
    monkeypatch.setattr("kinoclip.export.writing.TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="The graphs differ from the model"):
        list(export_recognizer(*bike, tmp_path / "export", format="torch", parts=["head"]))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_nothing(bike, tmp_path):
    lines = export_recognizer(*bike, tmp_path / "export", format="torch", parts=["head"])
    next(lines)
    lines.close()
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_with_another_model_is_told(make, export):
    folder = export("bike").folder
    model, processor = make("bike")
    with torch.no_grad():
        model.visual_projection.weight *= 1.5
    with pytest.raises(RuntimeError, match="differ from the model"):
        list(compare_export(model, processor, folder))
    with pytest.raises(ValueError, match="Compare it with the model that it was made of"):
        list(compare_export(*make("text4vis"), folder))


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no export\.json"):
        load_exported(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no export"):
        load_exported(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", ["no json", "[]", "{}", '{"kinoclip_export": 1}', '{"kinoclip_export": 1, "graphs": 3}']
)
def test_a_manifest_that_is_none_is_refused(text, tmp_path):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match="is no manifest of an export"):
        read_manifest(tmp_path)


def test_a_manifest_of_another_layout_is_refused(copied):
    change_manifest(copied, kinoclip_export=2)
    with pytest.raises(ValueError, match="has layout 2, and this kinoclip reads layout 1"):
        load_exported(copied)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/passwd", "frames.so"])
def test_a_file_outside_of_the_folder_is_never_read(name, copied):
    graphs = json.loads((copied / MANIFEST).read_text())["graphs"]
    graphs["frames"]["file"] = name
    change_manifest(copied, graphs=graphs)
    with pytest.raises(ValueError, match="is no file of an export"):
        load_exported(copied)


def test_a_graph_that_is_missing_or_damaged_is_named(copied):
    (copied / "head.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"head\.onnx could not be read"):
        load_exported(copied)
    (copied / "head.onnx").unlink()
    with pytest.raises(ValueError, match=r"lacks head\.onnx"):
        load_exported(copied)


def test_another_graph_under_a_known_name_is_refused(copied):
    shutil.copy(copied / "text.onnx", copied / "head.onnx")
    with pytest.raises(ValueError, match="another graph than its manifest says"):
        load_exported(copied)


def test_the_config_of_another_method_is_refused(copied):
    change_manifest(copied, method="kinoclip_alt")
    with pytest.raises(ValueError, match="is of 'kinoclip_bike', but the graphs are of 'kinoclip_alt'"):
        load_exported(copied)


@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer.json"])
def test_a_damaged_file_beside_the_graphs_is_named_in_a_line(copied, name):
    (copied / name).write_text("{")
    with pytest.raises(ValueError, match="could not be read") as caught:
        load_exported(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cuda"}, "Leave device out"),
        ({"dtype": torch.bfloat16, "attributes": True}, "Leave dtype and attributes out"),
    ],
)
def test_what_an_export_cannot_change_is_refused(copied, options, said):
    with pytest.raises(ValueError, match=f"is an export: its graphs compute on the CPU.* {said}"):
        load_recognizer(copied, **options)
