"""From a question to an answer, and to one sentence for whatever goes wrong."""

import json

import pytest
from bilingual import build_bilingual

from kinoclip.modeling.classification import Classification, Prediction
from kinoclip.space.answers import Answer, Models, Question, answer
from kinoclip.space.limits import Limits, VisitError

LABELS = ("drinking", "waving", "squatting")
LIMITS = Limits()


@pytest.fixture(scope="module")
def models():
    return Models()


@pytest.fixture
def chinese_folder(tiny_fields, tokenizer, tmp_path):
    """A BIKE of random weights that reads Chinese, and its tokenizer."""
    folder = tmp_path / "bilingual"
    for part in build_bilingual(tiny_fields, tokenizer, {"drinking": "喝水"}, "喝水挥手"):
        part.save_pretrained(folder)
    return folder


def test_an_answer_ranks_and_explains_and_tells_nothing_of_this_machine(models, video_path):
    found = answer(Question(str(video_path), LABELS, "mini"), models, LIMITS)

    record = found.record()
    assert record["label"] == found.ranking.label
    assert set(record["saliency"]) == set(LABELS)
    assert str(video_path.parent) not in json.dumps(record)
    assert "spans" not in record


def test_spans_are_found_when_they_are_asked_for(models, video_path):
    question = Question(str(video_path), LABELS, spans=True, threshold=0.0)
    record = answer(question, models, LIMITS).record()
    assert record["spans"][0]["label"] in LABELS


def test_below_the_threshold_the_answer_is_none_of_these():
    ranking = Classification((Prediction("drinking", 0.6), Prediction("waving", 0.4)))
    assert Answer("mini", 0.7, ranking).record()["label"] == "none of these"
    assert Answer("mini", 0.6, ranking).record()["label"] == "drinking"


def test_the_number_of_frames_is_the_visitors(models, video_path):
    found = answer(Question(str(video_path), LABELS, frames=5), models, LIMITS)
    assert len(found.ranking.frames) == 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"frames": 33}, "The number of frames must be from 1 to 32, or 0, got 33."),
        ({"threshold": 2.0}, "The threshold must be from 0 to 1, got 2.0."),
        ({"model": "../etc"}, "The model must be one of mini-actions, mini, got '../etc'."),
        ({"labels": ("drinking " * 80,)}, "The label 'drinking"),
        (
            {"labels": ("diving",)},
            "The embedded model mini-actions knows what the people of the demo do only, not 'diving'",
        ),
    ],
)
def test_numbers_and_models_that_do_not_exist_are_refused(models, video_path, changed, message):
    with pytest.raises(VisitError) as caught:
        answer(Question(**{"video": str(video_path), "labels": LABELS, **changed}), models, LIMITS)
    assert str(caught.value).startswith(message)


def test_what_nobody_foresaw_is_one_plain_sentence_and_stands_in_the_log(video_path, monkeypatch, caplog):
    models = Models()
    monkeypatch.setattr(models, "load", lambda name: 1 / 0)
    with pytest.raises(VisitError, match=r"^Internal error\. Try another video"):
        answer(Question(str(video_path), LABELS), models, LIMITS)
    assert "ZeroDivisionError" in caplog.text


def test_a_folder_is_shown_by_its_name_and_loaded_once(bike_folder):
    models = Models([str(bike_folder), "org/model"])
    assert models.names == ["bike", "org/model", "mini-actions", "mini"]
    assert models.load("bike") is models.load("bike")


def test_two_folders_of_one_name_are_refused(bike_folder, tmp_path):
    other = tmp_path / "other" / "bike"
    other.mkdir(parents=True)
    with pytest.raises(ValueError, match="have the same name bike"):
        Models([str(bike_folder), str(other)])


def test_the_model_that_was_not_asked_for_longest_is_let_go(bike_folder):
    models = Models([str(bike_folder)], keep=1)
    first = models.load("bike")
    models.load("mini")
    assert models.load("bike") is not first


def test_a_model_that_cannot_be_loaded_is_told_without_its_path(tmp_path, caplog):
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(VisitError, match=r"^The model broken cannot be loaded at the moment\. Choose another one\.$"):
        Models([str(broken)]).load("broken")
    assert "config.json" in caplog.text


def test_chinese_names_of_one_visitor_do_not_stay_for_the_next(chinese_folder, video_path):
    models = Models([str(chinese_folder)])
    assert models.reads_chinese("bilingual")
    assert not models.reads_chinese("mini")
    names = {"drinking": "喝水", "waving": "挥手"}
    found = answer(Question(str(video_path), LABELS[:2], "bilingual", chinese=names), models, LIMITS)
    assert set(found.ranking.languages) == {"english", "chinese"}
    assert models.load("bilingual").processor.chinese["labels"] == {"drinking": ["喝水"]}
