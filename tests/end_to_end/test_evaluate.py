"""`kinoclip evaluate` as a person uses it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import BertTokenizer

from kinoclip import BikeConfig, BikeModel, BikeProcessor
from kinoclip.cli import main
from kinoclip.data.kinoshapes import kinoshapes_clips, write_video
from kinoclip.text.attributes import write_attributes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips in a folder of their color each, one of them broken."""
    root = tmp_path_factory.mktemp("videos")
    for index, clip in enumerate(kinoshapes_clips(12, split="test", label="color")):
        (root / clip.color).mkdir(exist_ok=True)
        write_video(root / clip.color / f"{index}.mp4", clip.frames)
    (root / "red" / "broken.mp4").write_bytes(b"no video")
    return root


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


def test_other_names_for_the_classes_can_be_given(folder, capsys):
    names = "blue shape,green shape,purple shape,red shape,white shape,yellow shape"  # in the order of the folders

    assert main(["evaluate", "mini", "--data", str(folder), "--labels", names, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["top1"] > 0.9


def test_too_few_names_are_an_error(folder, capsys):
    assert main(["evaluate", "mini", "--data", str(folder), "--labels", "red,blue"]) == 2
    assert "2 names for 6 classes" in capsys.readouterr().err


def test_frozen_features_are_probed(folder, capsys):
    arguments = ["evaluate", "mini", "--data", str(folder), "--probe", "knn", "--train", str(folder)]

    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["top1"] > 0.9


def test_a_probe_without_training_videos_is_wrong_use(folder, capsys):
    assert main(["evaluate", "mini", "--data", str(folder), "--probe", "knn"]) == 2
    assert "belong together" in capsys.readouterr().err


def test_attributes_need_a_model_that_reads_them(folder, bike_folder, tmp_path, capsys):
    write_attributes(tmp_path / "phrases.json", {"red/0.mp4": ["red"]})

    code = main(["evaluate", str(bike_folder), "--data", str(folder), "--attributes", str(tmp_path / "phrases.json")])

    assert code == 2
    assert "no attributes branch" in capsys.readouterr().err


def test_an_unknown_protocol_is_wrong_use(folder, capsys):
    assert main(["evaluate", "mini", "--data", str(folder), "--protocol", "five_crops"]) == 2
    assert "There is no protocol 'five_crops'" in capsys.readouterr().err


def test_two_processes_count_every_video_once(folder, tmp_path):
    report = tmp_path / "report.json"
    arguments = ["-m", "kinoclip.cli", "evaluate", "mini", "--data", str(folder), "--output", str(report)]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29533"]

    subprocess.run([sys.executable, *launch, *arguments], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    found = json.loads(report.read_text())
    assert found["num_videos"] == 12
    assert len(found["failures"]) == 1
    assert sum(row["videos"] for row in found["per_class"]) == 12


def measure(capsys, *arguments):
    """Run `kinoclip evaluate` and return its report."""
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("protocol", "views"),
    [("bike_four_clips", (4, 1)), ("xclip_three_crops", (1, 3)), ("text4vis_single_view", (1, 1))],
)
def test_a_protocol_is_chosen_by_name(folder, capsys, protocol, views):
    report = measure(capsys, "mini", "--data", folder, "--protocol", protocol)

    assert report["protocol"]["name"] == protocol
    assert (report["protocol"]["num_clips"], report["protocol"]["num_crops"]) == views
    assert report["metrics"]["top1"] > 0.9


def test_charades_has_several_labels_and_the_running_mean(folder, tmp_path, capsys):
    classes = ["blue", "green", "purple", "red", "white", "yellow"]
    lines = ["id,actions,length"]
    for number, path in enumerate(path for path in sorted(folder.glob("*/*.mp4")) if path.name != "broken.mp4"):
        shutil.copy(path, tmp_path / f"AB{number:03d}.mp4")
        actions = {classes.index(path.parent.name), number % 6} if number else ()
        lines.append(f"AB{number:03d},{';'.join(f'c{code:03d} 0.0 1.0' for code in actions)},2.0")
    (tmp_path / "Charades_v1_test.csv").write_text("\n".join(lines))
    (tmp_path / "Charades_v1_classes.txt").write_text(
        "\n".join(f"c{number:03d} {name}" for number, name in enumerate(classes))
    )
    options = ["--data", tmp_path, "--dataset", "charades", "--split", "test", "--batch-size", 4]

    report = measure(capsys, "mini", *options, "--protocol", "bike_charades_four_clips")

    assert set(report["metrics"]) == {"map", "running_map"}
    assert report["num_videos"] == 12
    assert report["protocol"]["num_clips"] == 4


def test_halves_and_lists_of_classes_are_scored_by_themselves(folder, tmp_path, capsys):
    (tmp_path / "warm.txt").write_text("red\nYellow\n")
    options = [word for name in (tmp_path / "warm.txt", "base", "novel") for word in ("--classes", name)]

    metrics = measure(capsys, "mini", "--data", folder, "--protocol", "halves", *options)["metrics"]

    assert {"half_top1_mean", "half_top1_std", "list_top1_mean", "list_top1_std", "harmonic_mean"} <= set(metrics)
    assert metrics["list_top1_mean"] == pytest.approx(
        sum(metrics[f"{name}_top1"] for name in ("warm", "base", "novel")) / 3
    )


@pytest.mark.parametrize(
    ("name", "said"), [("kinetics600/1", "lacks 160 of the 160 classes"), ("kinetics600/9", "no class list")]
)
def test_a_list_of_other_classes_is_wrong_use(folder, capsys, name, said):
    assert main(["evaluate", "mini", "--data", str(folder), "--classes", name]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def ucf(folder, tmp_path):
    """Three folds of UCF101 with four, three and two test videos."""
    root = tmp_path / "ucf"
    videos = [path for path in sorted(folder.glob("*/*.mp4")) if path.name != "broken.mp4"]
    names = []
    for number, source in enumerate(videos[:4]):
        label = ("ApplyEyeMakeup", "Archery")[number % 2]
        names.append(f"{label}/v_{label}_g01_c0{number}.avi")
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / names[-1]).write_bytes(source.read_bytes())
    for fold in (1, 2, 3):
        (root / f"testlist0{fold}.txt").write_text("\n".join(names[: 5 - fold]))
        (root / f"trainlist0{fold}.txt").write_text("\n".join(f"{name} 1" for name in names[5 - fold :]))
    return root


def test_folds_are_measured_with_their_mean_and_deviation(ucf, tmp_path, capsys):
    output = tmp_path / "folds.json"
    options = ["--data", ucf, "--dataset", "ucf101", "--folds", "1,2,3", "--output", output]

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


def test_folds_that_are_no_numbers_are_wrong_use(ucf, capsys):
    assert main(["evaluate", "mini", "--data", str(ucf), "--folds", "one"]) == 2
    assert "--folds one: give numbers" in capsys.readouterr().err


def test_the_recipe_of_a_checkpoint_decides_on_the_protocol(folder, bike_folder, capsys):
    rules = {"protocol": "bike_four_clips", "selection": "test"}
    (bike_folder / "training.json").write_text(json.dumps({"recipe": {"evaluation": rules}}))

    assert main(["evaluate", str(bike_folder), "--data", str(folder)]) == 0
    printed = capsys.readouterr()
    assert "BIKE's test.py, four clips" in printed.out
    assert "best epoch on the test videos themselves (biased upwards)" in printed.out
    assert "the protocol is that of the model's recipe, bike_four_clips" in printed.err
    report = measure(capsys, bike_folder, "--data", folder, "--protocol", "single_view")
    assert (report["protocol"]["name"], report["settings"]["selection"]) == ("single_view", "test")


@pytest.fixture
def phrases(folder, tmp_path):
    names = [str(path.relative_to(folder)) for path in folder.glob("*/*.mp4")]
    write_attributes(tmp_path / "phrases.json", {name: [name.partition("/")[0], "a clip"] for name in names})
    return tmp_path / "phrases.json"


@pytest.mark.parametrize("protocol", ["single_view", "bike_attributes", "bike_fused", "bike_fused_multi_view"])
def test_attributes_count_under_the_protocols_that_read_them(folder, phrases, capsys, protocol):
    report = measure(capsys, "mini", "--data", folder, "--attributes", phrases, "--protocol", protocol)

    assert report["metrics"]["top1"] > 0.9
    assert report["settings"]["num_attributes"] == 5
    # the attributes alone need no video, so the broken one is measured too
    assert report["num_videos"] == (13 if protocol == "bike_attributes" else 12)


@pytest.mark.parametrize(
    ("protocol", "with_file", "said"),
    [("bike_four_clips", True, "does not read attributes"), ("bike_fused", False, "scores the attributes")],
)
def test_attributes_and_protocol_must_fit(folder, phrases, capsys, protocol, with_file, said):
    options = ["--attributes", str(phrases)] if with_file else []
    assert main(["evaluate", "mini", "--data", str(folder), "--protocol", protocol, *options]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def chinese_folder(tiny_fields, tokenizer, tmp_path):
    """A published folder of a BIKE with a Chinese branch that carries the colors without Chinese names."""
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    torch.manual_seed(0)
    fields = {"chinese_branch": True, "chinese_text_config": {**tower, "vocab_size": 11, "pad_token_id": 0}}
    model = BikeModel(BikeConfig(**tiny_fields, **fields))
    processor = BikeProcessor.for_config(model.config, tokenizer)
    names = ["blue", "green", "purple", "red", "white", "yellow"]
    model.set_candidates(names, model.encode_text(**processor(text=names)))
    words = tmp_path / "vocab.txt"
    words.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"蓝绿紫红白黄"]), encoding="utf-8")
    processor.set_chinese(BertTokenizer(str(words)), {"a star": "白"}, context_length=8)
    model.save_pretrained(tmp_path / "chinese")
    processor.save_pretrained(tmp_path / "chinese")
    return tmp_path / "chinese"


def test_chinese_names_count_even_where_the_checkpoint_carries_the_classes(folder, chinese_folder, tmp_path, capsys):
    names = dict(zip(("blue", "green", "purple", "red", "white", "yellow"), "蓝绿紫红白黄", strict=True))
    (tmp_path / "zh.json").write_text(json.dumps(names), encoding="utf-8")

    plain = measure(capsys, chinese_folder, "--data", folder, "--protocol", "single_view")
    chinese = measure(capsys, chinese_folder, "--data", folder, "--chinese-labels", tmp_path / "zh.json")

    assert plain["metrics"]["map"] != chinese["metrics"]["map"]
    assert main(["evaluate", "mini", "--data", str(folder), "--chinese-labels", str(tmp_path / "zh.json")]) == 2
    assert "has no Chinese branch" in capsys.readouterr().err
