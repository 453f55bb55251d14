"""The command line as a person uses it: what it prints, what it writes, how it ends."""

import csv
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer

from kinoclip import AltModel, AltProcessor, BikeConfig, BikeModel, BikeProcessor, SllmModel
from kinoclip.cli import main
from kinoclip.inference.record_file import RecordFile

LABELS = "red circle,blue square,green star"


def run(*arguments):
    """Run a command in this process and give its exit code; wrong arguments end in argparse's own exit."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


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
    (folder / ".hidden").write_text("not looked at")
    return folder


def test_a_folder_gives_one_record_per_file(videos, clip_folder, tmp_path):
    output = tmp_path / "out.jsonl"
    assert run("classify", videos, "--labels", LABELS, "--model", clip_folder, "--output", output) == 0
    records = read_jsonl(output)
    names = ["a.mp4", "broken.mp4", "inner/b with space, and comma.mp4", "notes.txt"]
    assert [record["video"] for record in records] == [str(videos / name) for name in names]
    assert ["error" in record for record in records] == [False, True, False, True]


def test_a_record_names_labels_probabilities_and_the_times_that_were_looked_at(video_path, clip_folder, capsys):
    assert run("classify", video_path, "--labels", LABELS, "--model", clip_folder) == 0
    record = json.loads(capsys.readouterr().out)
    assert {p["label"] for p in record["predictions"]} == set(LABELS.split(","))
    assert sum(p["probability"] for p in record["predictions"]) == pytest.approx(1, abs=1e-5)
    # 16 frames at 8 per second, 8 of them looked at: every second one, a quarter of a second apart
    assert record["frame_indices"] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert record["timestamps"] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert record["duration_seconds"] == 2.0


def test_an_explanation_holds_the_saliency_of_each_frame(video_path, clip_folder, capsys):
    assert run("classify", video_path, "--labels", LABELS, "--model", clip_folder, "--explain") == 0
    saliency = json.loads(capsys.readouterr().out)["saliency"]
    assert set(saliency) == set(LABELS.split(","))
    assert sum(saliency["red circle"]) == pytest.approx(1, abs=1e-3)


@pytest.fixture
def alt_folder(clip_folder, tmp_path):
    """A published folder of an ALT without training, with a corpus of three entities."""
    torch.manual_seed(0)
    model = AltModel.from_clip(clip_folder, merge_r=2)
    processor = AltProcessor.from_clip(clip_folder, model.config)
    model.set_corpus(["a red circle", "a blue square", "an empty background"], processor=processor)
    model.save_pretrained(tmp_path / "alt")
    processor.save_pretrained(tmp_path / "alt")
    return tmp_path / "alt"


def test_an_explanation_of_alt_holds_the_entities_of_each_frame(video_path, alt_folder, capsys):
    assert run("classify", video_path, "--labels", LABELS, "--model", alt_folder, "--explain") == 0
    entities = json.loads(capsys.readouterr().out)["entities"]
    assert set(entities) <= {"a red circle", "a blue square", "an empty background"}
    assert {len(scores) for scores in entities.values()} == {8}
    totals = [sum(scores) for scores in entities.values()]
    assert totals == sorted(totals, reverse=True)


def test_pictures_are_written_one_for_each_video_that_can_be_read(videos, alt_folder, tmp_path):
    output, pictures = tmp_path / "out.csv", tmp_path / "why" / "not"
    command = ("classify", videos, "--labels", LABELS, "--model", alt_folder, "--output", output)
    assert run(*command, "--pictures", pictures) == 0
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    drawn = [row["picture"] for row in rows if row["picture"]]
    assert [bool(row["picture"]) for row in rows] == [True, False, True, False]
    assert sorted(drawn) == sorted(str(path) for path in pictures.iterdir())
    assert Path(drawn[1]).name.startswith("b with space, and comma-")
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in drawn)
    assert json.loads(rows[0]["entities"])


def test_two_videos_of_one_name_have_pictures_of_their_own(video_path, clip_folder, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(video_path, tmp_path / folder / "clip.mp4")
    paths = (tmp_path / "a", tmp_path / "b")
    assert run("classify", *paths, "--labels", LABELS, "--model", clip_folder, "--pictures", tmp_path / "why") == 0
    assert len(list((tmp_path / "why").iterdir())) == 2


@pytest.fixture
def chinese_model(tiny_fields, tokenizer, tmp_path):
    """The function that publishes a folder of a BIKE with a Chinese branch, with or without the tokenizer for it."""

    def write(with_tokenizer: bool = True):
        tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
        torch.manual_seed(0)
        fields = {"chinese_branch": True, "chinese_text_config": {**tower, "vocab_size": 30, "pad_token_id": 0}}
        model = BikeModel(BikeConfig(**tiny_fields, **fields))
        processor = BikeProcessor.for_config(model.config, tokenizer)
        if with_tokenizer:
            words = tmp_path / "vocab.txt"
            words.write_text(
                "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"红圆蓝方绿星"]), encoding="utf-8"
            )
            processor.set_chinese(BertTokenizer(str(words)), {"a star": "星"}, context_length=8)
        model.save_pretrained(tmp_path / "chinese")
        processor.save_pretrained(tmp_path / "chinese")
        return tmp_path / "chinese"

    return write


@pytest.fixture
def chinese_labels(tmp_path):
    path = tmp_path / "chinese.json"
    path.write_text(json.dumps({"red circle": "红圆", "Blue_Square": "蓝方"}), encoding="utf-8")
    return path


def test_chinese_names_vote_and_the_explanation_says_how(video_path, chinese_model, chinese_labels, capsys):
    command = ("classify", video_path, "--labels", "red circle,blue square", "--model", chinese_model(), "--explain")
    assert run(*command, "--chinese-labels", chinese_labels) == 0
    record = json.loads(capsys.readouterr().out)
    english, chinese = record["languages"]["english"], record["languages"]["chinese"]
    fused = {p["label"]: p["probability"] for p in record["predictions"]}
    expected = {label: (english[label] + chinese[label]) / 2 for label in english}
    assert fused == pytest.approx(expected, abs=1e-4)
    overlap = sum(min(english[label], chinese[label]) for label in english)
    assert record["agreement"] == pytest.approx(overlap, abs=2e-4)
    assert english != chinese


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        ("red circle,green star", "{file}", "'green star' has no Chinese name"),
        ("red circle", "none.json", "no such file of Chinese labels"),
        ("red circle", "hmdb51", "'red circle' has no Chinese name"),
    ],
)
def test_wrong_chinese_names_give_one_line_and_code_2(
    labels, names, said, video_path, chinese_model, chinese_labels, capsys
):
    names = names.replace("{file}", str(chinese_labels))
    folder = chinese_model()
    assert run("classify", video_path, "--labels", labels, "--model", folder, "--chinese-labels", names) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert said in errors


def test_chinese_names_need_a_branch_a_tokenizer_and_labels(
    video_path, clip_folder, chinese_model, chinese_labels, capsys
):
    command = ("classify", video_path, "--chinese-labels", chinese_labels, "--model")
    assert run(*command, clip_folder, "--labels", "red circle") == 2
    assert "has no Chinese branch" in capsys.readouterr().err
    assert run(*command, chinese_model()) == 2
    assert "Give labels too" in capsys.readouterr().err
    assert run(*command, chinese_model(with_tokenizer=False), "--labels", "red circle") == 2
    assert "no tokenizer for it" in capsys.readouterr().err


def test_a_lexicon_adds_attributes_to_the_record(video_path, clip_folder, tmp_path, capsys):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("red\nblue\ncircle\nsquare\nstar\nstriped background\n")
    assert run("classify", video_path, "--labels", LABELS, "--model", clip_folder, "--lexicon", lexicon) == 0
    attributes = json.loads(capsys.readouterr().out)["attributes"]
    assert len(attributes) == 5
    assert set(attributes) <= set(lexicon.read_text().splitlines())


def test_descriptions_are_read_together_with_their_labels(video_path, clip_folder, tmp_path, capsys):
    path = tmp_path / "descriptions.json"
    path.write_text(json.dumps({"red circle": "a round red thing", "blue square": "a blue box"}))
    command = ("classify", video_path, "--labels", "red circle,blue square", "--model", clip_folder)
    assert run(*command) == 0
    plain = json.loads(capsys.readouterr().out)["predictions"]
    assert run(*command, "--descriptions", path) == 0
    described = json.loads(capsys.readouterr().out)["predictions"]
    assert {p["label"] for p in described} == {"red circle", "blue square"}
    assert described != plain


def test_a_label_without_a_description_is_named(video_path, clip_folder, capsys):
    command = ("classify", video_path, "--labels", "red circle", "--model", clip_folder)
    assert run(*command, "--descriptions", "hmdb51") == 2
    assert "red circle" in capsys.readouterr().err


def test_a_csv_has_one_row_per_file_with_names_intact(videos, clip_folder, tmp_path):
    output = tmp_path / "out.csv"
    run("classify", videos, "--labels", LABELS, "--model", clip_folder, "--output", output, "--top-k", 2)
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows][2] == str(videos / "inner/b with space, and comma.mp4")
    assert rows[0]["label_1"] in LABELS.split(",")
    assert rows[3]["error"].startswith("VideoRefusedError: ")


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
@pytest.mark.parametrize("cut", [3, 200, 900])
def test_a_cut_output_is_continued_to_the_same_bytes(videos, clip_folder, tmp_path, name, cut):
    whole, partial = tmp_path / f"whole_{name}", tmp_path / name
    command = ("classify", videos, "--labels", LABELS, "--model", clip_folder, "--output")
    run(*command, whole)
    partial.write_bytes(whole.read_bytes()[:cut])
    assert run(*command, partial) == 0
    assert partial.read_bytes() == whole.read_bytes()


def test_an_output_of_another_job_is_left_as_it_is(video_path, clip_folder, tmp_path, capsys):
    output = tmp_path / "out.jsonl"
    run("classify", video_path, "--labels", LABELS, "--model", clip_folder, "--output", output)
    before = output.read_bytes()
    assert run("classify", video_path, "--labels", "one,two", "--model", clip_folder, "--output", output) == 2
    assert output.read_bytes() == before
    assert "other labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{video}", "--labels", LABELS, "--model", "{tmp}/none"], "no model folder"),
        (["{video}", "--labels", LABELS, "--model", "{tmp}"], "no config.json"),
        (["{video}", "--labels", LABELS, "--model", "nonsense"], "neither a folder nor a hub id"),
        (["{video}", "--labels", LABELS, "--model", "{video}"], "is a file"),
        (["{video}", "--labels", "", "--model", "{clip}"], "no labels"),
        (["{video}", "--labels", "a,b,a", "--model", "{clip}"], "given twice"),
        (["{video}", "--labels", "word " * 90, "--model", "{clip}"], "77"),
        (["{video}", "--labels-file", "{tmp}/none.txt", "--model", "{clip}"], "none.txt"),
        (["{video}", "--model", "{clip}"], "no labels of its own"),
        (["{tmp}/none.mp4", "--labels", LABELS, "--model", "{clip}"], "no file or folder"),
        (["{video}", "--labels", LABELS, "--model", "{clip}", "--output", "{tmp}/out.txt"], ".jsonl or .csv"),
        (["{video}", "--labels", LABELS, "--model", "{clip}", "--top-k", "0"], "--top-k 0"),
        (["{video}", "--labels", LABELS, "--model", "{clip}", "--frames", "0"], "--frames 0"),
        (["{video}", "--labels", LABELS, "--model", "{clip}", "--device", "abacus"], "--device abacus"),
        (["{video}", "--labels", LABELS, "--model", "{clip}", "--lexicon-clip", "{clip}"], "--lexicon"),
    ],
)
def test_wrong_use_gives_one_line_and_code_2(arguments, said, video_path, clip_folder, tmp_path, capsys):
    places = {"{video}": str(video_path), "{clip}": str(clip_folder), "{tmp}": str(tmp_path)}
    for place, path in places.items():
        arguments = [argument.replace(place, path) for argument in arguments]
    assert run("classify", *arguments) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "colored shapes only" not in line]
    assert len(lines) == 1
    assert said in lines[0]
    assert not captured.out


def test_a_single_unreadable_video_is_a_failure(tmp_path, clip_folder, capsys):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"\0" * 100)
    assert run("classify", path, "--labels", LABELS, "--model", clip_folder) == 1
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "VideoDecodeError"


def _start(*arguments, **options):
    command = [sys.executable, "-m", "kinoclip.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)


def test_an_interrupt_keeps_whole_records_and_the_same_command_continues(video_path, clip_folder, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(300):
        (folder / f"{i:03}.mp4").hardlink_to(video_path)
    output = tmp_path / "out.jsonl"
    command = ("classify", folder, "--labels", LABELS, "--model", clip_folder, "--output", output)
    # a shell starts what runs in its background deaf to interrupts, and children inherit that
    job = _start(*command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 120
    while not (output.exists() and output.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "Traceback" not in errors
    kept = len(read_jsonl(output))
    assert 0 < kept < 300
    assert run(*command) == 0
    names = [record["video"] for record in read_jsonl(output)]
    assert names == sorted(set(names))
    assert len(names) == 300


def test_a_full_disk_ends_the_job_with_whole_records(videos, clip_folder, tmp_path):
    output = tmp_path / "out.jsonl"
    command = ("classify", videos, "--labels", LABELS, "--model", clip_folder, "--output", output)
    limit = 500  # bytes: one record and a part of the next
    job = _start(*command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 1
    assert "the disk is full" in errors
    assert "Traceback" not in errors
    assert len(read_jsonl(output)) >= 1


def test_a_read_only_place_for_the_output_is_one_line(video_path, clip_folder, capsys):
    code = run("classify", video_path, "--labels", LABELS, "--model", clip_folder, "--output", "/proc/out.jsonl")
    assert code != 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_record_that_cannot_be_written_whole_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    with RecordFile(path, "job") as records:
        records.write({"video": "a", "job": "job"})

        def fill_up(line):
            path.open("ab").write(line[:5])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(records, "_append", fill_up)
        with pytest.raises(OSError, match="No space left"):
            records.write({"video": "b", "job": "job"})
    assert read_jsonl(path) == [{"video": "a", "job": "job"}]


def test_convert_writes_a_folder_that_classifies(load_checkpoint, clip_folder, video_path, tmp_path, capsys):
    output = tmp_path / "bike"
    labels = tmp_path / "labels.txt"
    labels.write_text("red circle\nblue square\n")
    command = ("convert", "bike", load_checkpoint, "--clip", clip_folder, "--set", "num_frames=4")
    assert run(*command, "--labels-file", labels, "--output", output) == 0
    assert "wrote" in capsys.readouterr().out
    assert run("classify", video_path, "--model", output) == 0
    record = json.loads(capsys.readouterr().out)
    assert {p["label"] for p in record["predictions"]} == {"red circle", "blue square"}
    assert len(record["frame_indices"]) == 4


def test_convert_without_a_tokenizer_says_what_the_folder_lacks(load_checkpoint, tmp_path, capsys):
    assert run("convert", "bike", load_checkpoint, "--output", tmp_path / "bike") == 0
    assert "lacks a tokenizer" in capsys.readouterr().out
    assert (tmp_path / "bike" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing", "{checkpoint}", "--output", "{tmp}/out"], "no method 'nothing'"),
        (["bike", "{tmp}/none.pt", "--output", "{tmp}/out"], "no checkpoint file"),
        (["bike", "{tmp}/text.pt", "--output", "{tmp}/out"], "could not be read"),
        (["bike", "{checkpoint}", "--output", "{tmp}"], "holds other things"),
        (["bike", "{checkpoint}", "--output", "{tmp}/out", "--set", "bogus=1"], "no setting"),
        (["bike", "{checkpoint}", "--output", "{tmp}/out", "--set", "bogus"], "KEY=VALUE"),
        (["bike", "{checkpoint}", "--output", "{tmp}/out", "--clip", "{tmp}"], "No tokenizer"),
        (["bike", "{checkpoint}", "--output", "{tmp}/out", "--attributes", "{checkpoint}"], "no attributes branch"),
        (["bike", "{checkpoint}", "--output", "{tmp}/out", "--set", "interaction=magic"], "interaction"),
    ],
)
def test_wrong_conversion_gives_one_line_and_leaves_nothing(arguments, said, load_checkpoint, tmp_path, capsys):
    (tmp_path / "text.pt").write_text("no checkpoint")
    places = {"{checkpoint}": str(load_checkpoint), "{tmp}": str(tmp_path)}
    for place, path in places.items():
        arguments = [argument.replace(place, path) for argument in arguments]
    assert run("convert", *arguments) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert said in errors
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.fixture(scope="session")
def load_checkpoint(tmp_path_factory, clip_folder, as_openai):
    """A BIKE checkpoint in the authors' format on the embedded CLIP, without a temporal head."""
    model = BikeModel.from_clip(clip_folder, temporal_head="none")
    path = tmp_path_factory.mktemp("official") / "bike.pt"
    torch.save({"epoch": 1, "model_state_dict": as_openai(model.state_dict()), "fusion_model_state_dict": {}}, path)
    return path


def test_conversion_changes_no_answer(load_checkpoint, clip_folder, video_path, tmp_path):
    from kinoclip import Classifier

    run("convert", "bike", load_checkpoint, "--clip", clip_folder, "--output", tmp_path / "bike")
    labels = LABELS.split(",")
    converted = Classifier.load(tmp_path / "bike").classify(str(video_path), labels)
    direct = Classifier.load(clip_folder).classify(str(video_path), labels)
    assert [p.label for p in converted] == [p.label for p in direct]
    # splitting and joining the attention weights changes no bit, so neither may the answer
    assert [p.probability for p in converted] == [p.probability for p in direct]


@pytest.mark.parametrize(
    ("arguments", "gmacs", "parameters"),
    [
        # BIKE Table 1 prints 830, 932, 3728 GFLOPs and 230 M parameters, which leave out attention
        (["vitl14", 16, "paper"], 830.8, 230.4),
        (["vitl14-336", 8, "paper"], 932.3, 230.4),
        (["vitl14-336", 32, "paper"], 3729.3, 230.4),
        (["vitl14", 16, "full"], 1296.9, 346.6),
        (["vitl14-336", 8, "full"], 1528.0, 346.9),
        (["vitl14-336", 32, "full"], 6112.1, 346.9),
    ],
)
def test_profile_counts_bike_as_the_paper_and_in_full(arguments, gmacs, parameters, capsys):
    clip, frames, flops = arguments
    assert run("profile", "bike", "--clip", clip, "--frames", frames, "--flops", flops, "--json") == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["gmacs"] == pytest.approx(gmacs, abs=0.05)
    assert counted["parameters"] / 1e6 == pytest.approx(parameters, abs=0.05)
    assert counted["convention"] == flops


@pytest.mark.parametrize(
    ("arguments", "gmacs"),
    [
        # SLLM Table 3, ViT-B/32 with one prompt: 25.61, 49.29, 96.63, and with SLLM 25.88, 49.85
        (["actionclip", "--frames", 8, "--flops", "paper", "--prompts", 1], 25.61),
        (["actionclip", "--frames", 16, "--flops", "paper", "--prompts", 1], 49.29),
        (["actionclip", "--frames", 32, "--flops", "paper", "--prompts", 1], 96.64),
        (["sllm", "--set", "recognizer=actionclip", "--frames", 16, "--flops", "paper", "--prompts", 1], 25.88),
        (["sllm", "--set", "recognizer=actionclip", "--frames", 32, "--flops", "paper", "--prompts", 1], 49.85),
        # Fig. 5, images only: 23.57 and 11.79
        (["actionclip", "--set", "temporal_head=mean", "--frames", 8, "--flops", "paper"], 23.57),
        (["actionclip", "--set", "temporal_head=mean", "--frames", 4, "--flops", "paper"], 11.79),
        # sec. 3.4 and Tables 6, 8 print 4.41, 70.62, 35.31, 73.87, 38.41, 20.96: their counter adds normalization, 0.1 %
        (["actionclip", "--set", "temporal_head=mean", "--frames", 1], 4.409),
        (["actionclip", "--set", "temporal_head=mean", "--frames", 16], 70.541),
        (["actionclip", "--set", "temporal_head=mean", "--frames", 8], 35.271),
        (["actionclip", "--frames", 16, "--prompts", 1], 73.824),
        (["actionclip", "--frames", 8, "--prompts", 1], 38.401),
        (["sllm", "--set", "recognizer=actionclip", "--set", "rate=4", "--frames", 16, "--prompts", 1], 20.975),
    ],
)
def test_profile_counts_sllm_as_its_tables(arguments, gmacs, capsys):
    assert run("profile", *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["gmacs"] == pytest.approx(gmacs, abs=0.006)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bike", "--clip", "vitx"], "no CLIP 'vitx'"),
        (["nothing"], "Methods are: actionclip, alt, bike"),
        (["bike", "--size", "100"], "multiple of the patch size 32"),
        (["bike", "--set", "bogus=1"], "no setting"),
        (["{clip}", "--clip", "vitb32"], "has its own CLIP"),
    ],
)
def test_wrong_profile_gives_one_line_and_code_2(arguments, said, clip_folder, capsys):
    arguments = [argument.replace("{clip}", str(clip_folder)) for argument in arguments]
    assert run("profile", *arguments) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert said in errors


def test_profile_reads_a_published_folder(bike_folder, capsys):
    assert run("profile", bike_folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["num_frames"] == 4


def test_profile_counts_what_a_published_folder_holds(bike_folder, capsys):
    assert run("profile", bike_folder, "--json") == 0
    alone = json.loads(capsys.readouterr().out)
    wrapped = SllmModel.from_recognizer(BikeModel.from_pretrained(bike_folder), num_frames=4)
    wrapped.save_pretrained(bike_folder.parent / "sllm")
    assert run("profile", bike_folder.parent / "sllm", "--json") == 0
    thinned = json.loads(capsys.readouterr().out)
    # three blocks over 32 features, their positions of 77 rows, and nothing else
    added = sum(parameter.numel() for parameter in wrapped.restorer.parameters())
    assert thinned["parameters"] - alone["parameters"] == added
    assert thinned["gmacs"] < alone["gmacs"]


@pytest.mark.parametrize("name", ["bike", "tam", "{folder}"])
def test_profile_takes_another_image_size(name, bike_folder, capsys):
    name = name.replace("{folder}", str(bike_folder))
    assert run("profile", name, "--size", 64, "--json") == 0
    assert json.loads(capsys.readouterr().out)["image_size"] == 64


def test_the_demo_names_its_clips_and_draws_a_picture(tmp_path, capsys):
    assert run("demo", "--output", tmp_path / "demo", "--videos", 2) == 0
    output = capsys.readouterr().out
    assert "2 of 2 right" in output
    assert "saliency  |" in output
    assert (tmp_path / "demo" / "clip_0.png").read_bytes().startswith(b"\x89PNG")


def test_help_names_every_command(capsys):
    assert run("--help") == 0
    output = capsys.readouterr().out
    assert all(command in output for command in ("classify", "convert", "profile", "demo"))


def test_the_processor_of_a_converted_folder_is_the_methods_own(load_checkpoint, clip_folder, tmp_path):
    from transformers import AutoProcessor

    run("convert", "bike", load_checkpoint, "--clip", clip_folder, "--output", tmp_path / "bike")
    processor = AutoProcessor.from_pretrained(tmp_path / "bike")
    assert isinstance(processor, BikeProcessor)
    assert processor.video_processor.sampling == "segment_start_closed"
