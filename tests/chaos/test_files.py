"""Checkpoints, tables, lists, recipes and caches that are damaged, hostile, or of something else: one clear line each."""

import io
import json
import os
import pickle
import random
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from chaos.limits import IS_FULL
from chaos.mutations import seeded
from openai_layout import to_module
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from kinoclip.data.annotations import read_annotations
from kinoclip.data.load import load_videos
from kinoclip.evaluation.report import Report
from kinoclip.export.manifest import read_manifest
from kinoclip.inference.backends import load_recognizer
from kinoclip.inference.records import read_records
from kinoclip.inference.search import VideoEmbeddings
from kinoclip.methods.auto import mini_clip_path
from kinoclip.modeling.checkpoints import read_checkpoint
from kinoclip.text.attributes import read_attributes
from kinoclip.text.chinese import load_chinese_labels
from kinoclip.text.descriptions import read_descriptions
from kinoclip.text.labels import read_labels
from kinoclip.training.checkpoints import load_latest, save_checkpoint
from kinoclip.training.recipe import load_recipe
from kinoclip.video.errors import error_line

SEEDS = range(60 if IS_FULL else 4)
# what takes the place of a value in JSON
VALUES = (None, -1, 0, 1e300, "x", "../../etc/passwd", True, [], {}, [[]], "9" * 5000)
STATE = {"weight": torch.arange(600.0).reshape(20, 30), "bias": torch.ones(3, dtype=torch.float16)}


def outcome(read, *arguments):
    """Say "frames" for an answer, "error" for one clear line, and else what happened."""
    try:
        read(*arguments)
    except (ValueError, FileNotFoundError) as error:
        return "error" if len(error_line(error)) > 10 else f"unclear: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "frames"


def mutations(content, seeds=SEEDS):
    """Damage bytes, and what JSON there is in them by its values."""
    other = random.Random(1).randbytes(2000)
    for seed in seeds:
        draws = random.Random(seed)
        if seed % 2 and content[:1] == b"{":
            record = json.loads(content.splitlines()[0] if b"}\n{" in content else content)
            yield f"seed {seed}", _replace_value(record, draws)
        elif seed % 5 == 0:
            yield f"seed {seed}", content[: draws.randrange(len(content))]
        else:
            yield f"seed {seed}", seeded(content + b" " * 9, other, seed)
    yield "deep", b"[" * 100_000
    yield "empty", b""
    yield "not UTF-8", b"\xff\xfe" + content
    yield "zeros", bytes(1000)
    yield "a long line", b"a" * 3_000_000
    yield "a pickle", pickle.dumps(Hostile("/tmp/never"))


def _replace_value(content, draws):
    place = content
    while True:
        key = draws.choice(list(place) if isinstance(place, dict) else range(len(place))) if place else None
        if key is None or not isinstance(place[key], dict | list) or not place[key] or draws.random() < 0.3:
            break
        place = place[key]
    if key is not None:
        place[key] = draws.choice(VALUES)
    return json.dumps(content).encode()


class Hostile:
    """What runs when it is unpickled: it makes a file."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.fixture(autouse=True)
def quiet():
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(level)


@pytest.mark.parametrize("kind", ["own", "plain CLIP"] if IS_FULL else ["own"])
def test_model_folders_with_damage_in_each_file(kind, model_folder, tmp_path, hold):
    good, outcomes = model_folder if kind == "own" else mini_clip_path(), {}
    bad = tmp_path / "bad"
    shutil.copytree(good, bad)
    for file in sorted(good.iterdir()):
        if file.suffix not in (".json", ".safetensors"):
            continue
        content = file.read_bytes()
        for name, changed in mutations(content, range(12) if IS_FULL else range(1)):
            (bad / file.name).write_bytes(changed)
            outcomes[f"{file.name}, {name}"] = outcome(load_recognizer, bad)
        (bad / file.name).unlink()
        outcomes[f"no {file.name}"] = outcome(load_recognizer, bad)
        (bad / file.name).write_bytes(content)
    assert outcome(load_recognizer, bad) == "frames"
    hold(outcomes)


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("config.json", {"model_type": "kinoclip_nothing"}, "config.json"),
        ("config.json", {"model_type": "bert"}, "'bert' model"),
        ("config.json", {"model_type": "kinoclip_alt"}, "do not fit its config.json"),
        ("config.json", {"projection_dim": 48}, "do not fit its config.json"),
        ("config.json", {"temporal_layers": 3}, "missing, first temporal_head.encoder.layers.2"),
        ("config.json", {"temporal_layers": 1}, "unexpected, first temporal_head.encoder.layers.1"),
        ("config.json", {"model_type": "x", "auto_map": {"AutoConfig": "evil.Config"}}, "config.json"),
        ("processor_config.json", {"auto_map": {"AutoProcessor": "evil.P"}, "processor_class": "P"}, "processor"),
    ],
)
def test_a_folder_that_does_not_fit_is_named_and_no_code_of_it_runs(model_folder, tmp_path, file, changes, said):
    bad = shutil.copytree(model_folder, tmp_path / "bad")
    (bad / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'trace')!r})\n")
    (bad / "kinoclip_shim.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'trace')!r})\n")
    content = json.loads((bad / file).read_text())
    (bad / file).write_text(json.dumps(content | changes))
    if "evil" in str(changes) and file == "processor_config.json":
        assert outcome(load_recognizer, bad) in ("frames", "error")
    else:
        with pytest.raises(ValueError, match=said):
            load_recognizer(bad)
    assert not (tmp_path / "trace").exists()


def test_weights_that_are_no_numbers_are_named(model_folder, tmp_path):
    bad = shutil.copytree(model_folder, tmp_path / "bad")
    state = load_file(bad / "model.safetensors")
    state["text_projection.weight"][0, 0] = float("nan")
    save_file(state, bad / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"text_projection\.weight has values that are NaN or infinite"):
        load_recognizer(bad)


def test_an_unknown_field_of_a_config_changes_nothing(model_folder, tmp_path):
    bad = shutil.copytree(model_folder, tmp_path / "bad")
    content = json.loads((bad / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps(content | {"of_tomorrow": 1}))
    load_recognizer(bad)


def test_a_list_of_weights_leads_out_of_no_folder(model_folder, tmp_path):
    bad = shutil.copytree(model_folder, tmp_path / "bad")
    (bad / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    names = list(load_file(tmp_path / "elsewhere.safetensors"))
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../elsewhere.safetensors")}
    (bad / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="outside of the folder"):
        load_recognizer(bad)


WRITERS = {
    "a.safetensors": lambda path: save_file(STATE, path),
    "zip.pt": lambda path: torch.save(STATE, path),
    "legacy.pt": lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
    "script.pt": lambda path: torch.jit.save(torch.jit.script(to_module(STATE)), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_checkpoint_files_with_damage(name, tmp_path, hold):
    WRITERS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    outcomes = {}
    for seed, changed in mutations(content):
        (tmp_path / name).write_bytes(changed)
        outcomes[seed] = outcome(read_checkpoint, tmp_path / name)
    hold(outcomes)


def test_a_tensor_of_terabytes_in_a_small_file_is_refused(tmp_path):
    body = torch.nn.Module()
    body.register_buffer("huge", torch.ones(1).expand(10**13))
    torch.jit.save(torch.jit.script(body), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="in a storage of 1"):
        read_checkpoint(tmp_path / "a.pt")


LINES = b'{"video": "a.mp4", "label": "wave"}\n{"video": "b.mp4", "label": "run"}\n'
DESCRIPTIONS = b'{"wave": "a hand moves", "run": "legs move"}'
READERS = {
    "labels.txt": (b"wave\nrun fast\njump\n", read_labels),
    "labels.csv": (b"id,name\n0,wave\n1,run fast\n", read_labels),
    "labels.json": (b'{"0": "wave", "1": "run"}', read_labels),
    "descriptions.json": (DESCRIPTIONS, read_descriptions),
    "descriptions.csv": (b"label,description\nwave,a hand moves\n", read_descriptions),
    "attributes.json": (b'{"a.mp4": ["ball", "tree", "red sky", "sea", "man"]}', read_attributes),
    "chinese.json": ('{"wave": ["挥手"], "run": ["跑步"]}'.encode(), load_chinese_labels),
    "table.csv": (b"video,label\na.mp4,wave\nb.mp4,run\n", lambda path: read_annotations(path, None, None)),
    "table.jsonl": (LINES, lambda path: read_annotations(path, None, None)),
    "list.txt": (b"a.mp4 0\nb.mp4 1\n", lambda path: read_annotations(path, ["wave", "run"], None)),
    "recipe.toml": (b'[default]\nmethod = "bike"\ndataset = ""\n[default.model]\nnum_frames = 8\n', load_recipe),
    "records.jsonl": (b'{"video": "a.mp4", "job": "0123456789ab"}\n', read_records),
    "records.csv": (
        b"video,label,label_1,probability_1,error,duration_seconds,timestamps,frame_indices,attributes,saliency,entities,"
        b"languages,agreement,spans,file,picture,job\na.mp4,x,x,0.5,,2.0,0.0 0.5,0 4,,,,,,,,,0123456789ab\n",
        read_records,
    ),
    "report.json": (b'{"model": "m", "method": "bike", "metrics": {}}', Report.load),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_lists_tables_and_recipes_with_damage(name, tmp_path, hold):
    content, read = READERS[name]
    outcomes = {}
    for seed, changed in mutations(content):
        (tmp_path / name).write_bytes(changed)
        outcomes[seed] = outcome(read, tmp_path / name)
    hold(outcomes)


def test_embeddings_with_damage(tmp_path, hold):
    path = tmp_path / "a.safetensors"
    VideoEmbeddings(["a.mp4", "b.mp4"], torch.eye(2, 8), "mini", "f").save(path)
    outcomes = {}
    for seed, changed in mutations(path.read_bytes()):
        path.write_bytes(changed)
        outcomes[seed] = outcome(VideoEmbeddings.load, path)
    hold(outcomes)


def test_manifests_of_exports_with_damage(tmp_path, hold):
    good = {
        "kinoclip_export": 1, "format": "onnx", "dtype": "float32", "method": "kinoclip_bike", "source": "x", "versions": {},
        "opset": 18, "difference": {}, "same_best": [1, 1],
        "graphs": {"text": {"file": "text.onnx", "inputs": [{"name": "a", "dtype": "float32", "dims": [1]}], "outputs": [], "limits": {}}},
    }  # fmt: skip
    (tmp_path / "text.onnx").write_bytes(b"x")
    outcomes = {}
    for seed, changed in mutations(json.dumps(good).encode()):
        (tmp_path / "export.json").write_bytes(changed)
        outcomes[seed] = outcome(read_manifest, tmp_path)
    hold(outcomes)


def test_checkpoints_of_runs_with_damage_are_passed_over(tmp_path, hold):
    place = save_checkpoint(tmp_path, "step-1", {"model": STATE}, {"step": 1})
    outcomes = {}
    for file in sorted(place.iterdir()):
        whole = file.read_bytes()
        for seed, changed in mutations(whole):
            file.write_bytes(changed)
            outcomes[f"{file.name}, {seed}"] = outcome(load_latest, tmp_path, "step")
        file.write_bytes(whole)
    manifest = json.loads((place / "manifest.json").read_text())
    (tmp_path / "out.safetensors").write_bytes((place / "model.safetensors").read_bytes())
    manifest["../out.safetensors"] = manifest["model.safetensors"]
    (place / "manifest.json").write_text(json.dumps(manifest))
    assert load_latest(tmp_path, "step") is None
    hold(outcomes)


def hostile_tar(path, trace):
    """A shard whose members carry code in every form that loaders are known to run."""
    code = pickle.dumps(Hostile(trace))
    array, saved = io.BytesIO(), io.BytesIO()
    np.save(array, np.array([Hostile(trace)], dtype=object), allow_pickle=True)
    torch.save(Hostile(trace), saved)
    with tarfile.open(path, "w") as shard:
        members = {"pickle": code, "pkl": code, "pyd": code, "npy": array.getvalue(), "pth": saved.getvalue()}
        for ending, content in {**members, "mp4": b"x", "cls": b"0"}.items():
            member = tarfile.TarInfo(f"../../a.{ending}")
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))


def test_code_in_pickles_of_every_kind_is_never_run(tmp_path, model_folder, hold):
    trace, outcomes = tmp_path / "trace", {}
    code = pickle.dumps(Hostile(trace))
    for name in ("a.pt", "a.pth", "a.bin", "a.pkl", "a.safetensors", "a.ckpt"):
        (tmp_path / name).write_bytes(code)
        outcomes[name] = outcome(read_checkpoint, tmp_path / name)
        torch.save({"state_dict": {"weight": Hostile(trace)}}, tmp_path / name)
        outcomes[f"{name} by torch"] = outcome(read_checkpoint, tmp_path / name)
    for name in ("pytorch_model.bin", "model.safetensors", "config.json", "tokenizer.json", "processor_config.json"):
        bad = shutil.copytree(model_folder, tmp_path / f"bad_{name}")
        if name == "pytorch_model.bin":
            (bad / "model.safetensors").unlink()
            torch.save({"weight": Hostile(trace)}, bad / name)
        else:
            (bad / name).write_bytes(code)
        outcomes[name] = outcome(load_recognizer, bad)
    for name, (_, read) in READERS.items():
        (tmp_path / name).write_bytes(code)
        outcomes[name] = outcome(read, tmp_path / name)
    place = save_checkpoint(tmp_path, "step-1", {"model": STATE}, {"hostile": 1})
    torch.save({"hostile": Hostile(trace)}, place / "state.pt")
    from kinoclip.training.checkpoints import describe_file

    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps(manifest | {"state.pt": describe_file(place / "state.pt")}))
    outcomes["resume state"] = outcome(load_latest, tmp_path, "step")
    (tmp_path / "shards").mkdir()
    hostile_tar(tmp_path / "shards" / "a.tar", trace)
    outcomes["shard"] = outcome(lambda: list(load_videos(tmp_path / "shards", layout="webdataset")))
    assert not trace.exists()
    hold(outcomes)


def test_no_path_of_a_table_leads_out_of_its_folder(tmp_path, video_path):
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(video_path, tmp_path / "secret.mp4")
    shutil.copy(video_path, folder / "own.mp4")
    wanted = ["own.mp4", "../secret.mp4", str(tmp_path / "secret.mp4"), "x/../../secret.mp4"]
    wanted += ["/etc/passwd", "file:///etc/passwd"]
    (folder / "train.csv").write_text("video,label\n" + "".join(f"{name},wave\n" for name in wanted))
    data = load_videos(folder / "train.csv")
    found = {Path(video["path"]).resolve() for video in data.with_format(None)["video"]} if len(data) else set()
    assert found <= {(folder / "own.mp4").resolve()}
