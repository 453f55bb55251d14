"""`kinoclip corpus`: from labels to a corpus that a person corrects and a model uses."""

import json

import pytest
import torch
from clip_files import write_clips

from kinoclip import AltModel, AltProcessor
from kinoclip.cli import main
from kinoclip.kinoshapes import kinoshapes_clips
from kinoclip.kinoshapes.benchmark import action_classes
from kinoclip.text import generation
from kinoclip.text.entities import load_corpus

LABELS = [known.label for known in action_classes("motions")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with labels of KinoShapes and their units."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    units = {
        "labels": {label: {"motion": [label], "scene": ["background"]} for label in LABELS},
        "descriptions": {label: f"a shape {label}" for label in LABELS} | {"background": "one color"},
    }
    (tmp_path / "units.json").write_text(json.dumps(units))
    return tmp_path


def build(*options):
    return main(["corpus", "labels.txt", "--output", "corpus.jsonl", "--no-wordnet", *map(str, options)])


@pytest.fixture
def alt(folder, clip_folder):
    torch.manual_seed(0)
    model = AltModel.from_clip(clip_folder, merge_r=2, decoder_layers=1)
    processor = AltProcessor.from_clip(clip_folder, model.config)
    model.set_corpus(["a red circle", "a blue square"], processor=processor).save_pretrained(folder / "alt")
    processor.save_pretrained(folder / "alt")
    return folder / "alt"


def test_a_corpus_is_built_corrected_and_used(folder, alt, capsys):
    assert build("--units", "units.json", "--categories", "motion,scene") == 0
    # six motions, and the background of all of them; the table has 24 body parts too
    assert "7 entities (0 body, 0 object, 1 scene, 6 motion)" in capsys.readouterr().out
    table = folder / "corpus.review.csv"
    lines = table.read_text().splitlines()
    assert len(lines) == 1 + 24 + 7
    edited = [line.replace("one color,scene,,", "one color,scene,no,") for line in lines]
    edited = [line.replace("a shape moving left", "something goes to the left") for line in edited]
    table.write_text("\n".join([*edited, "ring,a round line,object,,"]))
    assert build("--units", "units.json", "--categories", "motion,scene") == 0
    assert "1 rejected, 1 edited or added" in capsys.readouterr().out
    corpus = {entity.unit: entity for entity in load_corpus("corpus.jsonl")}
    assert list(corpus) == LABELS  # objects are left out
    assert corpus["moving left"].description == "something goes to the left"
    assert corpus["moving left"].source == "reviewed"

    write_clips(folder / "clips", kinoshapes_clips(2, seed=1, label="verb"), "{clip.verb}/{number}.mp4")
    classify = ["classify", "clips", "--labels-file", "labels.txt", "--model", str(alt), "--output", "records.jsonl"]
    assert main([*classify, "--explain", "--corpus", "corpus.jsonl,hmdb51"]) == 0
    record = json.loads((folder / "records.jsonl").read_text().splitlines()[0])
    assert record["corpus"] == "corpus.jsonl, hmdb51"
    assert set(record["entities"]) & {entity.unit for entity in load_corpus(["corpus.jsonl", "hmdb51"])}
    capsys.readouterr()
    assert main([*classify, "--explain", "--corpus", "corpus.jsonl"]) == 2
    assert "made with another model or corpus." in capsys.readouterr().err
    assert main(["evaluate", str(alt), "--data", "clips", "--corpus", "corpus.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["corpus"] == ["corpus.jsonl"]


def test_a_text_model_is_asked_once_and_its_answers_are_kept(folder, monkeypatch, capsys):
    asked = []

    def answer(prompt):
        asked.append(prompt)
        return "- a shape\n- a ball" if prompt.startswith("What") else "It is a moving shape. And more."

    monkeypatch.setattr(generation, "ask_model", lambda source, token: answer)
    assert build("--ask", "some/model") == 0
    # five questions for each of six labels, and three for each of two units
    assert len(asked) == 5 * 6 + 3 * 2
    assert {e.description for e in load_corpus("corpus.jsonl") if e.unit == "a ball"} == {"It is a moving shape"}
    assert build("--ask", "some/model") == 0
    assert len(asked) == 36
    assert "6/6 labels" in capsys.readouterr().err


def test_packaged_sets_become_one_corpus_whose_entities_keep_the_labels_of_each(folder):
    assert main(["corpus", "hmdb51", "ucf101", "--no-wordnet", "--output", "both.json"]) == 0
    (ball,) = [entity for entity in load_corpus("both.json") if entity.unit == "basketball"]
    assert {"shoot ball", "basketball"} <= set(ball.labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "labels.txt has no packaged units. Give --units, --ask or WordNet."),
        (("--units", "units.json", "--categories", "tool"), "must be among body, object, scene, motion; got tool"),
        (("--units", "units.json", "--output", "labels.json"), "labels.json"),
        (("--units", "missing.json"), "The file of units missing.json does not exist."),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(folder, capsys, options, message):
    (folder / "labels.json").write_text('["mine"]')
    assert build(*options) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert message in error[0]
    assert not list(folder.glob("corpus.*"))
    assert (folder / "labels.json").read_text() == '["mine"]'


def test_a_decision_that_cannot_be_read_is_named_with_file_and_line(folder, capsys):
    assert build("--units", "units.json") == 0
    table = folder / "corpus.review.csv"
    table.write_text(table.read_text().replace("body,,", "body,perhaps,", 1))
    capsys.readouterr()
    assert build("--units", "units.json") == 2
    assert "corpus.review.csv, line 2: keep must be yes, no or empty, got 'perhaps'." in capsys.readouterr().err


def test_a_corpus_is_refused_by_a_model_without_one(folder, capsys, video_path):
    assert main(["classify", str(video_path), "--model", "mini", "--labels", "a,b", "--corpus", "hmdb51"]) == 2
    assert "The model mini has no corpus of entities; only ALT models have." in capsys.readouterr().err
