"""Names from a text model, corrected in a table, trained with, measured, and weighed."""

import csv
import json

import pytest
from clip_files import write_clips

from kinoclip.cli import main
from kinoclip.kinoshapes import kinoshapes_clips
from kinoclip.text import generation
from kinoclip.text.attributes import write_attributes

LABELS = ["red circle", "blue square", "green star"]
# what the model answers: usable, with an explanation, and the label itself
ANSWERS = {
    "red circle": "roter Kreis\nKreis in Rot",
    "blue square": "Names:\n1. blaues Quadrat",
    "green star": "Green Star",
}
SMALL = ["--set", "model.num_frames=2", "--set", "training.epochs=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of clips with three splits, and a file of their labels."""
    place = tmp_path_factory.mktemp("place")
    for split, seed in (("train", 0), ("validation", 1), ("test", 2)):
        write_clips(place / "clips" / split, kinoshapes_clips(9, seed, labels=LABELS), "{clip.label}/{number}.mp4")
    (place / "labels.txt").write_text("\n".join(LABELS))
    return place


@pytest.fixture
def run(place, monkeypatch, capsys):
    """A function that runs a command in the folder, with a fake text model, and returns its code, output and errors."""
    monkeypatch.chdir(place)

    def ask(prompt):
        return next(answer for label, answer in ANSWERS.items() if label in prompt)

    monkeypatch.setattr(generation, "ask_model", lambda source, token: ask)

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


GERMAN = ["--language", "German", "--variants", "2", "--ask", "a/model"]
TRANSLATE = ["translate", "labels.txt", *GERMAN, "--output", "de.json"]


@pytest.mark.parametrize("tower", ["shared", "clip"])
def test_german_names_of_a_model_are_corrected_and_vote(run, place, clip_folder, tower):
    for name in ("de.json", "de.review.csv", "de.answers.json"):
        (place / name).unlink(missing_ok=True)
    code, output, _ = run(*TRANSLATE)
    assert (code, output.splitlines()[0]) == (0, "de.json: 2 of 3 labels have a name in German")
    rows = list(csv.DictReader((place / "de.review.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert rows[2]["note"] == "left out: 'Green Star' is the label itself; no name"
    rows[2]["names"] = "grüner Stern"
    with (place / "de.review.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")  # as some spreadsheets do
        writer.writeheader()
        writer.writerows(rows)
    code, output, _ = run(*TRANSLATE)
    assert output == "de.json: 3 of 3 labels have a name in German\nde.review.csv: 0 to check, 1 edited\n"
    names = json.loads((place / "de.json").read_text())
    assert names["names"]["red circle"] == ["roter Kreis", "Kreis in Rot"]
    assert names["sources"] == {"red circle": "a/model", "blue square": "a/model", "green star": "reviewed"}

    settings = ["--set", f"model.second_tower={tower}", "--set", "data.chinese_labels=de.json"]
    settings += ["--set", "data.all_names=true"]
    if tower == "clip":
        settings += ["--set", f"data.chinese_clip={clip_folder}"]
    model = place / f"model_{tower}"
    assert run("train", "kinoshapes/dstpr", "--data", "clips", "--output", model, *settings, *SMALL)[0] == 0
    code, output, error = run("evaluate", model, "--data", "clips", "--split", "validation", "--save-fusion", "--json")
    report = json.loads(output)
    assert {"top1", "video_top1", "chinese_top1"} <= report["metrics"].keys()
    fusion = report["settings"]["fusion"]
    assert [row["weights"]["video"] for row in fusion["curve"]] == pytest.approx([step / 10 for step in range(11)])
    assert fusion["best"]["value"] >= max(report["metrics"]["video_top1"], report["metrics"]["chinese_top1"])
    assert json.loads((model / "config.json").read_text())["fusion_weight"] == fusion["best"]["weights"]["video"]
    assert "weights were chosen" not in error

    again = run("evaluate", model, "--data", "clips", "--split", "validation", "--json", "--calibrate-fusion")[1]
    assert json.loads(again)["metrics"]["top1"] == fusion["best"]["value"]
    (place / "other.json").write_text(json.dumps(dict(zip(LABELS, ("rot", "blau", "grün"), strict=True))))
    video = next((place / "clips" / "test").glob("*/*.mp4"))
    options = ["--labels", ",".join(LABELS), "--model", model, "--second-labels", "other.json", "--explain"]
    code, output, _ = run("classify", video, *options)
    assert (code, set(json.loads(output)["languages"])) == (0, {"english", "chinese"})


def test_weights_that_are_chosen_on_the_test_are_named_so(run, place):
    options = ["evaluate", "mini", "--data", "clips", "--split", "test", "--calibrate-fusion"]
    code, _, error = run(*options)
    assert (code, "Only a model with several branches has weights to calibrate" in error) == (2, True)
    videos = [path.relative_to(place / "clips") for path in place.glob("clips/test/*/*.mp4")]
    write_attributes(place / "phrases.json", {str(video): [video.parent.name] for video in videos})
    code, output, error = run(*options, "--attributes", "phrases.json")
    assert (code, "attributes_top1" in output) == (0, True)
    assert (
        "the weights were chosen on the test split: the value there is no test result. Use --split validation" in error
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["translate", "labels.txt", "--output", "x.json", "--language", "German", "--names", "hmdb51"],
            "--names hmdb51 is in Chinese, and --language is German",
        ),
        (["translate", "labels.txt", "--output", "mine.json"], "mine.json"),
        (["evaluate", "mini", "--data", "clips", "--save-fusion"], "in a model folder only, and mini is none"),
    ],
)
def test_wrong_options_are_refused_in_one_line(run, place, arguments, message):
    (place / "mine.json").write_text('{"red circle": "my own file"}')
    code, _, error = run(*arguments)
    assert code == 2
    assert message in error
    assert len(error.splitlines()) == 1
    assert (place / "mine.json").read_text() == '{"red circle": "my own file"}'


def test_weights_are_not_saved_into_a_plain_clip(run, clip_folder):
    code, _, error = run("evaluate", clip_folder, "--data", "clips", "--split", "validation", "--save-fusion")
    assert code == 2
    assert error.splitlines()[0].endswith("is a 'clip' model, whose config has no weights of branches.")


def test_labels_that_nothing_names_leave_a_table_to_write_into(run, place):
    code, output, error = run("translate", "labels.txt", "--language", "Finnish", "--output", "fi.json")
    assert code == 1
    assert output == "fi.json: 0 of 3 labels have a name in Finnish\nfi.review.csv: 3 to check, 0 edited\n"
    assert "no label has a name" in error
    assert not (place / "fi.json").exists()
