import json
import signal
from dataclasses import replace

import pytest
import torch
from datasets import ClassLabel, Features, List
from safetensors.torch import load_file

from kinoclip.inference.backends import load_recognizer
from kinoclip.text.attributes import write_attributes
from kinoclip.training.build_model import build_model
from kinoclip.training.checkpoints import read_checkpoint
from kinoclip.training.trainer import Trainer, train


def _weights(folder):
    return load_file(folder / "model.safetensors")


def _record(folder):
    return json.loads((folder / "training.json").read_text())


def _differences(found, expected):
    return [name for name in expected if not torch.equal(found[name], expected[name])]


@pytest.fixture(scope="module")
def finished(shapes, recipe, tmp_path_factory):
    """A run that selects its epoch on validation videos, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    recipe = recipe.with_settings({"evaluation.selection": "validation"})
    return recipe, folder, train(recipe, shapes, folder, validation=shapes)


def test_a_run_leaves_a_model_that_names_its_classes_and_a_record(finished, shapes):
    recipe, folder, result = finished
    model, processor = load_recognizer(folder)
    assert list(model.config.id2label.values()) == shapes.features["label"].names
    pixels = processor(videos=shapes[0]["video"]["bytes"])["pixel_values_videos"]
    assert model(pixels).logits.shape == (1, 6)
    record = _record(folder)
    assert record["recipe"] == json.loads(json.dumps(recipe.to_dict()))
    assert record["coverage"]["training"]["found"] == 12
    assert (record["updates"], record["history"]) == (3, result.history)
    assert result.best == {"epoch": 0, "update": 3, "value": result.history[0]["metrics"]["top1"]}


def test_a_finished_run_is_not_changed_and_resumed_with_its_own_settings_and_videos_only(finished, shapes):
    recipe, folder, result = finished
    assert train(recipe, shapes, folder, validation=shapes, resume=True) == result
    retold = replace(recipe, title="another", caveats=("new",)).with_settings({"runs.seeds": 5})
    assert train(retold, shapes, folder, validation=shapes, resume=True) == result
    with pytest.raises(ValueError, match=r"holds a run already. Continue it with --resume"):
        train(recipe, shapes, folder, validation=shapes)
    with pytest.raises(ValueError, match=r"with recipe.training.lr = 0.001, and it is 0.002 now"):
        train(recipe.with_settings({"training.lr": 2e-3}), shapes, folder, validation=shapes, resume=True)
    with pytest.raises(ValueError, match=r"with videos.training ="):
        train(recipe, shapes.select(range(10)), folder, validation=shapes, resume=True)
    with pytest.raises(ValueError, match=r"with videos.training ="):  # other content under the same names
        train(recipe, shapes.map(lambda row: {"video": {**row["video"], "bytes": row["video"]["bytes"] + b"x"}}), folder,
              validation=shapes, resume=True)  # fmt: skip


def test_a_selection_without_videos_is_refused_before_training(shapes, recipe, tmp_path):
    selecting = recipe.with_settings({"evaluation.selection": "validation"})
    with pytest.raises(ValueError, match="selection is 'validation', which needs validation videos"):
        train(selecting, shapes, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_attributes_of_a_validation_video_are_an_error_before_training(shapes, recipe, tmp_path):
    write_attributes(tmp_path / "known.json", {name: ["a shape"] for name in shapes["name"][:8]})
    settings = {"model.attributes": "shared", "model.train_branch": "attributes"}
    described = recipe.with_settings({**settings, "data.attributes": str(tmp_path / "known.json")})
    with pytest.raises(ValueError, match=r"no attributes of clip-8.mp4 \(1 of 1 videos are missing\)"):
        train(described, shapes.select(range(8)), tmp_path / "run", validation=shapes.select([8]))
    assert not (tmp_path / "run").exists()


# settings of a mode of the attributes branch, its losses, and the parts of the model that are trained
OWN = {"model.attributes": "own", "data.attribute_clip": "mini"}
MODES = {
    "MLPs behind a frozen tower, as the code": (
        {"model.attributes": "shared", "model.train_branch": "attributes"},
        {"attributes"},
        {"attributes.sentence_fc", "attributes.query_fc", "attributes.logit_scale"},
    ),
    "an own tower that is trained too, eq. 3": (
        {
            **OWN,
            "model.freeze_attribute_text": False,
            "model.attribute_head": "none",
            "model.train_branch": "attributes",
        },
        {"attributes"},
        {"attributes.text_model", "attributes.text_projection"},
    ),
    "both branches, eq. 9": (
        {**OWN, "model.train_branch": "both"},
        {"video", "attributes"},
        {"attributes.sentence_fc", "attributes.query_fc", "attributes.logit_scale"}
        | {"vision_model", "visual_projection", "temporal_head", "logit_scale"},
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_recipe_chooses_what_of_the_attributes_branch_is_trained(mode, shapes, recipe, tmp_path):
    settings, losses, trained = MODES[mode]
    recipe = recipe.with_settings(
        {"data.attributes": "kinoshapes", "model.fusion": {"video": 3, "attributes": 1}, **settings}
    )
    labels = shapes.features["label"].names
    result = train(recipe, shapes, tmp_path / "run", validation=shapes)
    assert result.history[0]["losses"].keys() == losses
    start, written = build_model(recipe, labels)[0].state_dict(), _weights(tmp_path / "run")
    changed = _differences(written, {name: start[name] for name in written if name in start})
    assert {".".join(name.split(".")[: 1 + name.startswith("attributes.")]) for name in changed} == trained
    assert load_recognizer(tmp_path / "run")[0].config.fusion == {"video": 3, "attributes": 1}


def test_a_cpu_trains_in_float32_instead_of_float16_and_logs_it(shapes, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    train(recipe.with_settings({"training.precision": "fp16"}), shapes, tmp_path)
    assert "training.precision is fp16, which CPUs do not support: training in float32." in capsys.readouterr().err
    assert _record(tmp_path)["precision"] == "no"


def test_a_run_that_fails_before_its_first_update_leaves_its_folder_free(shapes, recipe, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(recipe, shapes, tmp_path / "run", start=tmp_path / "nowhere")
    no_epochs = recipe.with_settings({"training.epochs": 0})
    assert train(no_epochs, shapes, tmp_path / "run").updates == 0
    start, written = build_model(recipe, shapes.features["label"].names)[0].state_dict(), _weights(tmp_path / "run")
    assert _differences(written, {name: start[name] for name in written if name in start}) == []


def _interrupt_after(update):
    """Patch of the trainer that sends Ctrl-C during an update."""

    def check(self, _):
        if self.state.progress.update == update:
            signal.raise_signal(signal.SIGINT)

    return check


def test_an_interrupted_run_continues_as_if_it_had_not_stopped(shapes, recipe, tmp_path, monkeypatch):
    settings = {"training.epochs": 2, "training.ema": 0.5, "training.accumulation": 2}
    recipe = recipe.with_settings({**settings, "data.augmentation": "resized_crop"})
    whole = train(recipe, shapes, tmp_path / "whole", validation=shapes)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_log_failures", _interrupt_after(4))
        with pytest.raises(KeyboardInterrupt):
            train(recipe, shapes, tmp_path / "stopped", validation=shapes)
    first = read_checkpoint(tmp_path / "stopped" / "checkpoints" / "step-4")[1]["progress"]["seconds"]
    resumed = train(recipe, shapes, tmp_path / "stopped", validation=shapes, resume=True)
    assert resumed.history == whole.history
    assert _differences(_weights(tmp_path / "stopped"), _weights(tmp_path / "whole")) == []
    # time and memory count both sessions
    record = _record(tmp_path / "stopped")
    assert record["seconds"] > first > 0
    assert record["training_videos_per_second"] == pytest.approx(24 / record["seconds"], rel=0.01)
    assert record["memory_mb"] > 10
    # the published model is the moving average
    average = load_file(tmp_path / "whole" / "checkpoints" / "step-6" / "average.safetensors")
    last = load_file(tmp_path / "whole" / "checkpoints" / "step-6" / "model.safetensors")
    assert _differences(_weights(tmp_path / "whole"), average) == []
    assert _differences(average, last)


def test_adapters_are_merged_before_the_model_is_saved(finished, shapes, recipe, tmp_path):
    train(recipe.with_settings({"training.lora.rank": 2}), shapes, tmp_path)
    _, plain, _ = finished
    assert _weights(tmp_path).keys() == _weights(plain).keys()
    assert (tmp_path / "config.json").read_text() == (plain / "config.json").read_text()


def test_unreadable_videos_are_named_in_the_result(shapes, broken, recipe, tmp_path, capsys):
    measured = broken.map(lambda row: {"name": f"measured-{row['name']}"})
    result = train(recipe, broken, tmp_path, validation=measured)
    assert list(result.failures) == ["clip-2.mp4", "measured-clip-2.mp4"]
    errors = capsys.readouterr().err
    assert "a video that cannot be read is replaced by another: clip-2.mp4" in errors
    assert "measured-clip-2.mp4 is in no metric: " in errors


def test_training_in_bfloat16_is_near_to_float32(finished, shapes, recipe, tmp_path):
    rough = train(recipe.with_settings({"training.precision": "bf16"}), shapes, tmp_path).history[0]["loss"]
    exact = finished[2].history[0]["loss"]
    # 8 bits: the losses are near, and not the same
    assert rough != exact
    assert rough == pytest.approx(exact, abs=0.2)


def test_videos_without_a_label_are_left_out_if_labels_share_the_target(shapes, recipe, tmp_path):
    rows = [dict(row) for row in shapes.select_columns(["video", "label", "name"])]
    for number, row in enumerate(rows):
        row["label"] = [] if number == 0 else [row["label"], 0]
    columns = shapes.select_columns(["video", "name"]).features
    label = List(ClassLabel(names=shapes.features["label"].names))
    multi_label = type(shapes).from_list(rows, features=Features({**columns, "label": label}))
    settings = {"training.objective": "candidates", "model.loss": "cross_entropy"}
    train(recipe.with_settings(settings), multi_label, tmp_path)
    assert _record(tmp_path)["videos"]["training"][0] == 11


def test_a_tracker_that_is_not_installed_is_an_error_before_training(shapes, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.is_comet_ml_available", lambda: False)
    with pytest.raises(ImportError, match=r"The tracker comet_ml is not installed: pip install comet_ml"):
        train(recipe, shapes, tmp_path / "run", trackers=["comet_ml"])
