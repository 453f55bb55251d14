"""The command line: what it prints, what it writes, how it ends."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from bilingual import build_bilingual
from transformers import AutoProcessor

from kinoclip import AltModel, AltProcessor, BikeModel, BikeProcessor, Classifier
from kinoclip.cli import main
from kinoclip.inference.batch_job import ClassifyJob

LABELS = "red circle,blue square,green star"


@pytest.fixture
def run(capsys):
    """A function that runs a command in this process and returns its code, output and lines of errors."""

    def run(*arguments):
        capsys.readouterr()  # what saving in this test printed
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # of argparse
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, [line for line in printed.err.splitlines() if "colored shapes only" not in line]

    return run


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def videos(tmp_path, video_path):
    """Two clips, a broken one and a text."""
    folder = tmp_path / "videos"
    (folder / "inner").mkdir(parents=True)
    shutil.copy(video_path, folder / "a.mp4")
    shutil.copy(video_path, folder / "inner" / "b with space, and comma.mp4")
    (folder / "broken.mp4").write_bytes(video_path.read_bytes()[:500])
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden").write_text("not listed")
    return folder


@pytest.fixture
def classify(run, video_path, clip_folder):
    """A function that classifies one video and returns its record."""

    def classify(*options, model=clip_folder, labels=("--labels", LABELS)):
        code, output, _ = run("classify", video_path, *labels, "--model", model, *options)
        assert code == 0
        return json.loads(output)

    return classify


def test_a_folder_gives_one_record_per_video(run, videos, clip_folder, tmp_path):
    output = tmp_path / "out.jsonl"
    code, _, errors = run("classify", videos, "--labels", LABELS, "--model", clip_folder, "--output", output)
    assert code == 0
    assert errors[0] == f"kinoclip: skipped files other than videos: 1, such as {videos / 'notes.txt'}"
    assert errors[-1].startswith("3/3 videos, 1 unreadable, ")
    records = read_jsonl(output)
    names = ["a.mp4", "broken.mp4", "inner/b with space, and comma.mp4"]
    assert [record["video"] for record in records] == [str(videos / name) for name in names]
    assert ["error" in record for record in records] == [False, True, False]


def test_a_record_has_labels_probabilities_and_the_times_of_the_frames(classify):
    record = classify()
    assert {p["label"] for p in record["predictions"]} == set(LABELS.split(","))
    assert sum(p["probability"] for p in record["predictions"]) == pytest.approx(1, abs=1e-5)
    # 16 frames at 8 per second, 8 of them sampled: every second one, a quarter of a second apart
    assert record["frame_indices"] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert record["timestamps"] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert record["duration_seconds"] == 2.0


@pytest.fixture
def alt_folder(clip_folder, tmp_path):
    """A folder of an ALT without training, with a corpus of three entities."""
    torch.manual_seed(0)
    model = AltModel.from_clip(clip_folder, merge_r=2)
    processor = AltProcessor.from_clip(clip_folder, model.config)
    model.set_corpus(["a red circle", "a blue square", "an empty background"], processor=processor)
    model.save_pretrained(tmp_path / "alt")
    processor.save_pretrained(tmp_path / "alt")
    return tmp_path / "alt"


def test_an_explanation_has_saliency_or_entities_of_each_frame(classify, alt_folder):
    saliency = classify("--explain")["saliency"]
    assert set(saliency) == set(LABELS.split(","))
    assert sum(saliency["red circle"]) == pytest.approx(1, abs=1e-3)
    entities = classify("--explain", model=alt_folder)["entities"]
    assert set(entities) <= {"a red circle", "a blue square", "an empty background"}
    assert {len(scores) for scores in entities.values()} == {8}
    totals = [sum(scores) for scores in entities.values()]
    assert totals == sorted(totals, reverse=True)


def test_a_csv_has_a_row_for_each_file_and_a_picture_for_each_video(run, videos, alt_folder, tmp_path):
    output, pictures = tmp_path / "out.csv", tmp_path / "why" / "not"
    shutil.copytree(videos / "inner", videos / "other")  # videos of the same name have pictures of their own
    command = ("classify", videos, "--labels", LABELS, "--model", alt_folder, "--output", output, "--top-k", 2)
    assert run(*command, "--pictures", pictures)[0] == 0
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    drawn = [row["picture"] for row in rows if row["picture"]]
    assert [bool(row["picture"]) for row in rows] == [True, False, True, True]
    assert sorted(set(drawn)) == sorted(str(path) for path in pictures.iterdir())
    assert Path(drawn[1]).name.startswith("b with space, and comma-")
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in drawn)
    assert json.loads(rows[0]["entities"])
    assert rows[2]["video"] == str(videos / "inner/b with space, and comma.mp4")
    assert rows[0]["label_1"] in LABELS.split(",")
    assert rows[1]["error"].startswith("VideoDecodeError: ")


@pytest.fixture
def chinese_model(tiny_fields, tokenizer, tmp_path):
    """The function that writes a folder of a BIKE with a Chinese branch, with or without the tokenizer for it."""

    def write(with_tokenizer: bool = True):
        model, processor = build_bilingual(tiny_fields, tokenizer, {"a star": "星"}, "红圆蓝方绿星")
        if not with_tokenizer:
            processor = BikeProcessor.for_config(model.config, tokenizer)
        model.save_pretrained(tmp_path / "chinese")
        processor.save_pretrained(tmp_path / "chinese")
        return tmp_path / "chinese"

    return write


@pytest.fixture
def chinese_labels(tmp_path):
    path = tmp_path / "chinese.json"
    path.write_text(json.dumps({"red circle": "红圆", "Blue_Square": "蓝方"}), encoding="utf-8")
    return path


def test_chinese_names_vote_and_the_explanation_says_how(classify, chinese_model, chinese_labels):
    options = ("--explain", "--chinese-labels", chinese_labels)
    record = classify(*options, model=chinese_model(), labels=("--labels", "red circle,blue square"))
    english, chinese = record["languages"]["english"], record["languages"]["chinese"]
    fused = {p["label"]: p["probability"] for p in record["predictions"]}
    expected = {label: (english[label] + chinese[label]) / 2 for label in english}
    assert fused == pytest.approx(expected, abs=1e-4)
    overlap = sum(min(english[label], chinese[label]) for label in english)
    assert record["agreement"] == pytest.approx(overlap, abs=2e-4)
    assert english != chinese


@pytest.mark.parametrize(
    ("labels", "names", "has_tokenizer", "said"),
    [
        ("red circle,green star", "{file}", True, "'green star' has no Chinese name"),
        ("red circle", "none.json", True, "none.json"),
        ("red circle", "hmdb51", True, "'red circle' has no Chinese name"),
        ("red circle", "{file}", False, "no tokenizer for it"),
        ("red circle", "{file}", None, "has no Chinese branch"),
    ],
)
def test_wrong_chinese_names_give_one_line_and_code_2(
    run, labels, names, has_tokenizer, said, video_path, chinese_model, chinese_labels, clip_folder
):
    model = clip_folder if has_tokenizer is None else chinese_model(has_tokenizer)
    options = ("--model", model, "--chinese-labels", names.replace("{file}", str(chinese_labels)))
    code, _, errors = run("classify", video_path, "--labels", labels, *options)
    assert (code, len(errors)) == (2, 1)
    assert said in errors[0]


def test_a_lexicon_adds_attributes_and_descriptions_change_the_answer(classify, tmp_path):
    (tmp_path / "lexicon.txt").write_text("red\nblue\ncircle\nsquare\nstar\nstriped background\n")
    attributes = classify("--lexicon", tmp_path / "lexicon.txt")["attributes"]
    assert len(attributes) == 5
    assert set(attributes) <= set((tmp_path / "lexicon.txt").read_text().splitlines())
    descriptions = dict(zip(LABELS.split(","), ("a round red thing", "a blue box", "a green shape"), strict=True))
    (tmp_path / "descriptions.json").write_text(json.dumps(descriptions))
    described = classify("--descriptions", tmp_path / "descriptions.json")["predictions"]
    assert {p["label"] for p in described} == set(descriptions)
    assert described != classify()["predictions"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{video}", "--labels", LABELS, "--model", "{tmp}/none"], "none"),
        (["{video}", "--labels", LABELS, "--model", "{tmp}"], "config.json"),
        (["{video}", "--labels", "word " * 90, "--model", "{clip}"], "77"),
        (["{video}", "--labels", "red circle", "--model", "{clip}", "--descriptions", "hmdb51"], "red circle"),
        (["{video}", "--model", "{clip}"], 'no labels of its own. Give them: --labels "diving,archery"'),
        (["{video}", "--labels", LABELS, "--model", "{clip}", "--output", "{tmp}/out.txt"], ".jsonl or .csv or"),
        (["{video}", "--labels", "one,two", "--model", "{clip}", "--output", "{tmp}/old.jsonl"], "other labels"),
        (["{video}", "--labels", "a", "--background", "a", "--model", "mini"], "given twice"),
        (["{video}", "--labels", LABELS, "--model", "{clip}", "--device", "abacus"], "got 'abacus'"),
    ],
)
def test_wrong_use_gives_one_line_and_code_2(run, arguments, said, video_path, clip_folder, tmp_path):
    old = tmp_path / "old.jsonl"
    job = "-".join(["01234567"] * 5)
    old.write_text(f'{{"video": "a", "job": "{job}"}}\n')
    places = {"{video}": str(video_path), "{clip}": str(clip_folder), "{tmp}": str(tmp_path)}
    for place, path in places.items():
        arguments = [argument.replace(place, path) for argument in arguments]
    code, output, errors = run("classify", *arguments)
    assert (code, output, len(errors)) == (2, "", 1)
    assert said in errors[0]
    assert old.read_text() == f'{{"video": "a", "job": "{job}"}}\n'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("classify a.mp4 --labels red circle", '--labels "red circle,blue square"'),
        ("clasify a.mp4", "The nearest known one is 'classify'."),
        ("classify a.mp4 --labels a,b --dtype float", "The nearest known one is 'float"),
    ],
)
def test_a_mistake_in_the_command_line_is_followed_by_what_was_meant(run, arguments, said):
    code, _, errors = run(*arguments.split())
    assert code == 2
    assert said in errors[-1]


@pytest.mark.parametrize("command", ["profile", "publish"])
def test_a_plain_clip_that_is_no_method_is_to_be_converted(run, command, clip_folder):
    code, _, errors = run(command, clip_folder, *(["org/name", "--dry-run"] if command == "publish" else []))
    assert (code, len(errors)) == (2, 1)
    assert "kinoclip convert bike CLIP" in errors[0]


@pytest.mark.parametrize("options", [(), ("--output", "out.jsonl")])
def test_a_folder_without_a_readable_video_is_a_failure(run, tmp_path, clip_folder, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"\0" * 100)
    code, output, errors = run("classify", ".", "--labels", LABELS, "--model", clip_folder, *options)
    assert code == 1
    assert errors[-1].startswith("2/2 videos, 2 unreadable, ")
    records = (Path("out.jsonl").read_text() if options else output).splitlines()
    assert [json.loads(record)["error"]["type"] for record in records] == ["VideoDecodeError"] * 2


def test_an_output_that_cannot_be_written_is_one_line(run, video_path, clip_folder):
    command = ("classify", video_path, "--labels", LABELS, "--model", clip_folder, "--output", "/proc/out.jsonl")
    code, _, errors = run(*command)
    assert code != 0
    assert len(errors) == 1


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, clip_folder, as_openai):
    """A BIKE checkpoint in the authors' format on the embedded CLIP, without a temporal head."""
    model = BikeModel.from_clip(clip_folder, temporal_head="none")
    path = tmp_path_factory.mktemp("official") / "bike.pt"
    torch.save({"epoch": 1, "model_state_dict": as_openai(model.state_dict()), "fusion_model_state_dict": {}}, path)
    return path


def test_convert_writes_a_folder_that_classifies(run, checkpoint, clip_folder, video_path, tmp_path):
    (tmp_path / "labels.txt").write_text("red circle\nblue square\n")
    options = ("--clip", clip_folder, "--set", "num_frames=4", "--labels-file", tmp_path / "labels.txt")
    code, output, _ = run("convert", "bike", checkpoint, *options, "--output", tmp_path / "bike")
    assert code == 0
    assert "wrote" in output
    code, output, _ = run("classify", video_path, "--model", tmp_path / "bike")
    record = json.loads(output)
    assert {p["label"] for p in record["predictions"]} == {"red circle", "blue square"}
    assert len(record["frame_indices"]) == 4
    processor = AutoProcessor.from_pretrained(tmp_path / "bike")
    assert isinstance(processor, BikeProcessor)
    assert processor.video_processor.sampling == "segment_start_closed"


def test_conversion_changes_no_answer(run, checkpoint, clip_folder, video_path, tmp_path):
    run("convert", "bike", checkpoint, "--clip", clip_folder, "--output", tmp_path / "bike")
    converted, direct = (
        Classifier.load(model).classify(str(video_path), LABELS.split(","))
        for model in (tmp_path / "bike", clip_folder)
    )
    # splitting and joining the attention weights changes no bit, so neither may the answer
    assert converted.predictions == direct.predictions


def test_convert_without_a_tokenizer_says_what_the_folder_lacks(run, checkpoint, tmp_path):
    code, output, _ = run("convert", "bike", checkpoint, "--output", tmp_path / "bike")
    assert code == 0
    assert "no tokenizer" in output
    assert (tmp_path / "bike" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing", "{checkpoint}", "--output", "{tmp}/out"], "nothing"),
        (["bike", "{tmp}/text.pt", "--output", "{tmp}/out"], "text.pt"),
        (["bike", "{checkpoint}", "--output", "{tmp}"], "{tmp}"),
        (["bike", "{checkpoint}", "--output", "{tmp}/out", "--set", "bogus=1"], "bogus"),
        (["bike", "{checkpoint}", "--output", "{tmp}/out", "--clip", "{tmp}"], "tokenizer"),
        (["bike", "{checkpoint}", "--output", "{tmp}/out", "--attributes", "{checkpoint}"], "attributes"),
        (["bike", "{checkpoint}", "--output", "{tmp}/out", "--set", "interaction=magic"], "interaction"),
    ],
)
def test_wrong_conversion_gives_one_line_and_leaves_nothing(run, arguments, said, checkpoint, tmp_path):
    (tmp_path / "text.pt").write_text("no checkpoint")
    for place, path in {"{checkpoint}": str(checkpoint), "{tmp}": str(tmp_path)}.items():
        arguments = [argument.replace(place, path) for argument in arguments]
        said = said.replace(place, path)
    code, _, errors = run("convert", *arguments)
    assert (code, len(errors)) == (2, 1)
    assert said in errors[0]
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_profile_prints_what_it_counted(run, bike_folder):
    code, output, _ = run("profile", bike_folder, "--json")
    assert (code, json.loads(output)["num_frames"]) == (0, 4)
    assert "4 frames of 32 pixels, one view, counted as full" in run("profile", bike_folder)[1]
    code, _, errors = run("profile", "bike", "--size", 100)
    assert (code, len(errors)) == (2, 1)


def test_the_demo_names_its_clips_and_draws_a_picture(run, tmp_path):
    code, output, _ = run("demo", "--output", tmp_path / "demo", "--videos", 2)
    assert code == 0
    assert "2 of 2 right" in output
    assert "saliency  |" in output
    assert (tmp_path / "demo" / "clip_0.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("broken", "options", "code", "said"),
    [
        (False, [], 0, ["videos       1", "readable     1", "unreadable   0"]),
        (True, ["--json"], 1, ['{"videos": 2, "readable": 1']),
        (False, ["--output", "report.jsonl", "--full"], 0, ["videos       1"]),
    ],
)
def test_check_lists_unreadable_videos(run, video_path, tmp_path, monkeypatch, broken, options, code, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    shutil.copy(video_path, tmp_path / "videos" / "-a (1).mp4")
    if broken:
        (tmp_path / "videos" / "bad.mp4").write_bytes(b"no video")
    for _ in range(2):  # the second time from the report, if there is one
        found, output, errors = run("check", "videos", "--workers", 0, *options)
        assert found == code
        assert output.startswith("\n".join(said))
        assert broken == any("bad.mp4" in line for line in errors)
    if "--output" in options:
        [record] = read_jsonl(tmp_path / "report.jsonl")
        assert (record["num_frames"], record["full"]) == (16, True)


def test_check_of_nothing_is_a_failure(run, tmp_path):
    assert run("check", tmp_path, "--workers", 0)[0] == 1


def test_jobs_of_many_videos_decode_in_processes_of_their_own(run, video_path, clip_folder, monkeypatch):
    seen = []
    label = ClassifyJob.label
    monkeypatch.setattr(ClassifyJob, "label", lambda job, *a, **k: seen.append(job.isolate) or label(job, *a, **k))
    command = ("classify", video_path, "--labels", LABELS, "--model", clip_folder)
    for options in ((), ("--isolate",)):
        assert run(*command, *options)[0] == 0
    monkeypatch.setattr("kinoclip.cli.options.ISOLATED_FROM", 1)
    for options in ((), ("--no-isolate",)):
        assert run(*command, *options)[0] == 0
    assert seen == [False, True, True, False]


@pytest.mark.parametrize(("options", "serves_agents"), [(["--mcp"], True), ([], None)])
def test_the_space_serves_agents_on_request(run, monkeypatch, options, serves_agents):
    app = pytest.importorskip("kinoclip.space.app", reason="pip install 'kinoclip[demo]'")
    launched = {}
    monkeypatch.setattr(app, "build_app", lambda models: models)
    monkeypatch.setattr(app, "launch_app", lambda app, **given: launched.update(given))
    monkeypatch.setattr("kinoclip.cli.demo.find_spec", lambda name: name)
    assert run("space", *options)[0] == 0
    assert launched["mcp_server"] is serves_agents


def test_serving_agents_without_the_package_names_what_to_install(run, monkeypatch):
    monkeypatch.setattr("kinoclip.cli.demo.find_spec", lambda name: None)
    code, _, errors = run("space", "--mcp")
    assert (code, errors) == (2, ["kinoclip: The MCP server needs the package mcp: pip install 'kinoclip[mcp]'."])
