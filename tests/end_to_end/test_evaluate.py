"""`kinoclip evaluate`; protocols, attributes and metrics are tested in `tests/unit/evaluation`."""

import json
import shutil
import socket
import subprocess

import pytest
from bilingual import build_bilingual
from clip_files import write_clips

from kinoclip import BikeProcessor
from kinoclip.cli import main
from kinoclip.kinoshapes import kinoshapes_clips
from kinoclip.text.attributes import write_attributes

COLORS = ["blue", "green", "purple", "red", "white", "yellow"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 clips in folders of their color, and a broken one."""
    clips = kinoshapes_clips(12, split="test", label="color")
    root = write_clips(tmp_path_factory.mktemp("videos"), clips, "{clip.color}/{number}.mp4")
    (root / "red" / "broken.mp4").write_bytes(b"no video")
    return root


def measure(capsys, *arguments):
    """Run `kinoclip evaluate` and return its report."""
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_is_measured_and_the_report_written(folder, tmp_path, capsys):
    code = main(["evaluate", "mini", "--data", str(folder), "--output", str(tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text())
    printed = capsys.readouterr()
    assert code == 0
    assert report["num_videos"] == 12
    assert list(report["failures"]) == ["red/broken.mp4"]
    assert report["metrics"]["top1"] > 0.9
    assert "12 videos, 1 unreadable" in printed.out
    assert "red/broken.mp4 is in no metric" in printed.err


def test_labels_replace_the_names_of_the_classes(folder, capsys):
    labels = ",".join(f"{color} shape" for color in COLORS)  # in the order of the folders
    assert measure(capsys, "mini", "--data", folder, "--labels", labels)["metrics"]["top1"] > 0.9


def test_frozen_features_are_probed(folder, capsys):
    assert main(["evaluate", "mini", "--data", str(folder), "--probe", "knn", "--train", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["top1"] > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "red,blue"], "one label for each of 6 classes, got 2"),
        (["--protocol", "five_crops"], "got 'five_crops'"),
        (["--classes", "kinetics600/1"], "lacks 160 of the 160 classes"),
        (["--classes", "kinetics600/9"], "A class list must be one of"),
        (["--protocol", "bike_fused"], "scores the attributes"),
    ],
)
def test_wrong_options_are_refused(folder, capsys, options, message):
    assert main(["evaluate", "mini", "--data", str(folder), *options]) == 2
    assert message in capsys.readouterr().err


def test_two_processes_count_every_video_once(folder, programs, tmp_path):
    report = tmp_path / "report.json"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    command = ["kinoclip", "evaluate", "mini", "--data", str(folder), "--output", str(report)]
    processes = [
        subprocess.Popen(command, env=programs | together | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "01"
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    found = json.loads(report.read_text())
    assert (found["num_videos"], len(found["failures"])) == (12, 1)
    assert sum(row["videos"] for row in found["per_class"]) == 12


def test_charades_has_several_labels_and_the_running_mean(folder, tmp_path, capsys):
    lines = ["id,actions,length"]
    for number, path in enumerate(path for path in sorted(folder.glob("*/*.mp4")) if path.name != "broken.mp4"):
        shutil.copy(path, tmp_path / f"AB{number:03d}.mp4")
        actions = {COLORS.index(path.parent.name), number % 6} if number else ()
        lines.append(f"AB{number:03d},{';'.join(f'c{code:03d} 0.0 1.0' for code in actions)},2.0")
    (tmp_path / "Charades_v1_test.csv").write_text("\n".join(lines))
    classes = "\n".join(f"c{number:03d} {name}" for number, name in enumerate(COLORS))
    (tmp_path / "Charades_v1_classes.txt").write_text(classes)
    options = ["--data", tmp_path, "--dataset", "charades", "--split", "test", "--batch-size", 4]
    report = measure(capsys, "mini", *options, "--protocol", "bike_charades_four_clips")
    assert set(report["metrics"]) == {"map", "running_map"}
    assert (report["num_videos"], report["protocol"]["num_clips"]) == (12, 4)


def test_halves_and_lists_of_classes_are_scored_separately(folder, tmp_path, capsys):
    (tmp_path / "warm.txt").write_text("red\nYellow\n")
    options = [word for name in (tmp_path / "warm.txt", "base", "novel") for word in ("--classes", name)]
    metrics = measure(capsys, "mini", "--data", folder, "--protocol", "halves", *options)["metrics"]
    assert {"half_top1_mean", "half_top1_std", "list_top1_mean", "list_top1_std", "harmonic_mean"} <= set(metrics)
    mean = sum(metrics[f"{name}_top1"] for name in ("warm", "base", "novel")) / 3
    assert metrics["list_top1_mean"] == pytest.approx(mean)


def test_folds_are_measured_with_their_mean_and_deviation(folder, tmp_path, capsys):
    # three folds of UCF101 with four, three and two test videos
    root, names = tmp_path / "ucf", []
    for number, source in enumerate(sorted(folder.glob("*/[0-9]*.mp4"))[:4]):
        label = ("ApplyEyeMakeup", "Archery")[number % 2]
        names.append(f"{label}/v_{label}_g01_c0{number}.avi")
        (root / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / names[-1])
    for fold in (1, 2, 3):
        (root / f"testlist0{fold}.txt").write_text("\n".join(names[: 5 - fold]))
        (root / f"trainlist0{fold}.txt").write_text("\n".join(f"{name} 1" for name in names[5 - fold :]))
    output = tmp_path / "folds.json"
    options = ["--data", root, "--dataset", "ucf101", "--folds", "1,2,3", "--output", output]
    found = measure(capsys, "mini", *options)
    assert [report["num_videos"] for report in found["folds"]] == [4, 3, 2]
    values = [report["metrics"]["top5"] for report in found["folds"]]
    assert found["summary"]["top5"]["values"] == values
    assert found["summary"]["top5"]["mean"] == pytest.approx(sum(values) / 3)
    assert len(found["summary"]["top5"]["interval"]) == 2
    assert json.loads(output.read_text()) == found
    assert main(["evaluate", "mini", *map(str, options)]) == 0
    printed = capsys.readouterr().out
    assert "fold 2: mini on ucf101: one clip, center crop, 3 videos" in printed
    assert "mean +- deviation over 3 folds" in printed


def test_the_protocol_is_that_of_the_checkpoints_recipe(folder, bike_folder, capsys):
    rules = {"protocol": "bike_four_clips", "selection": "test"}
    (bike_folder / "training.json").write_text(json.dumps({"recipe": {"evaluation": rules}}))
    assert main(["evaluate", str(bike_folder), "--data", str(folder)]) == 0
    printed = capsys.readouterr()
    assert "BIKE's test.py, four clips" in printed.out
    assert "best epoch on the test videos themselves (biased upwards)" in printed.out
    assert "the protocol is that of the model's recipe, bike_four_clips" in printed.err
    report = measure(capsys, bike_folder, "--data", folder, "--protocol", "single_view")
    assert (report["protocol"]["name"], report["settings"]["selection"]) == ("single_view", "test")


@pytest.mark.parametrize(("protocol", "videos"), [("bike_attributes", 13), ("bike_fused", 12)])
def test_attributes_are_read_from_a_file(folder, tmp_path, capsys, protocol, videos):
    names = [str(path.relative_to(folder)) for path in folder.glob("*/*.mp4")]
    write_attributes(tmp_path / "phrases.json", {name: [name.partition("/")[0], "a clip"] for name in names})
    options = ["--data", folder, "--attributes", tmp_path / "phrases.json", "--protocol", protocol]
    report = measure(capsys, "mini", *options)
    assert report["metrics"]["top1"] > 0.9
    assert report["num_videos"] == videos  # the attributes alone need no video, not even the broken one


def test_chinese_names_count_even_if_the_checkpoint_carries_the_classes(
    folder, tiny_fields, tokenizer, tmp_path, capsys
):
    model, processor = build_bilingual(tiny_fields, tokenizer, {"a star": "白"}, "蓝绿紫红白黄")
    own = BikeProcessor.for_config(model.config, tokenizer)(text=COLORS)
    model.set_candidates(COLORS, model.encode_text(**own))
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    names = tmp_path / "zh.json"
    names.write_text(json.dumps(dict(zip(COLORS, "蓝绿紫红白黄", strict=True))), encoding="utf-8")
    plain = measure(capsys, tmp_path / "model", "--data", folder, "--protocol", "single_view")
    chinese = measure(capsys, tmp_path / "model", "--data", folder, "--chinese-labels", names)
    assert plain["metrics"]["map"] != chinese["metrics"]["map"]
    assert main(["evaluate", "mini", "--data", str(folder), "--chinese-labels", str(names)]) == 2
    assert "has no Chinese branch" in capsys.readouterr().err
