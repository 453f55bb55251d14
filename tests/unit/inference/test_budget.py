"""Curves of measured settings, budgets, and the choice between both."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from kinoclip.inference.budget import Budget, Curve, Point, Setting, curve_path, describe_environment, read_curve
from kinoclip.storage import check_owned, readable_by

SAVED = Point(Setting(8), 0.80, 0.100, "aa-bb-cc")
HALF = Point(Setting(4), 0.75, 0.060, "aa-bd-cc")
QUARTER = Point(Setting(2), 0.60, 0.030, "aa-be-cc")
SLOW = Point(Setting(4, clips=2), 0.70, 0.090, "aa-bf-cc")  # beaten by HALF
EQUAL = Point(Setting(8, backend="openvino"), 0.80, 0.110, "ad-bb-cc")  # as accurate as SAVED, and slower


@pytest.fixture
def curve():
    points = (SAVED, SLOW, EQUAL, QUARTER, HALF)
    return Curve("tiny", "top1", {"videos": 40, "source": "clips"}, describe_environment(), points)


@pytest.fixture
def folder(tmp_path, curve):
    """The folder of a model with a curve beside it."""
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny.curve.json").write_text(curve.to_json())
    return tmp_path / "tiny"


def test_the_front_holds_the_settings_that_no_other_one_beats(curve):
    assert curve.front == [QUARTER, HALF, SAVED]


@pytest.mark.parametrize(
    ("seconds", "chosen"), [(0.030, QUARTER), (0.059, QUARTER), (0.060, HALF), (0.095, HALF), (9, SAVED)]
)
def test_the_most_accurate_setting_within_the_time_is_chosen_and_the_fastest_of_equals(curve, seconds, chosen):
    assert curve.choose(seconds) == chosen


def test_a_budget_below_all_settings_is_refused_by_naming_the_fastest(curve):
    with pytest.raises(
        ValueError, match=r"at least 30 ms per video.*\(--frames 2 --clips 1, top1 60.00%\), got 29 ms"
    ):
        curve.choose(0.029)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("50ms", 0.05),
        ("2s", 2.0),
        ("1.5 s", 1.5),
        ("0.25", 0.05),  # of 0.2 s
        (".5", 0.1),
        ("1", 0.2),
        ("20min", 3.0),  # 1200 s for 400 videos
        ("3h", 27.0),
    ],
)
def test_a_budget_is_a_time_per_video_or_per_job_or_a_share(text, seconds):
    assert Budget.parse(text).seconds_per_video(full=0.2, videos=400) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "fast", "50", "1.5", "0", "0ms", "-1s", "3 hours", "3hh", "nan", "1e3ms"])
def test_other_texts_are_no_budget(text):
    with pytest.raises(ValueError, match="budget must be a time per video such as 50ms"):
        Budget.parse(text)


def test_a_setting_is_written_as_the_options_of_classify():
    assert str(Setting(8)) == "--frames 8 --clips 1"
    every = Setting(4, 2, rate=4, merge_r=2, dtype="float32", backend="openvino-int8")
    assert str(every) == "--frames 4 --clips 2 --dtype float32 --backend openvino-int8 --set rate=4 --set merge_r=2"


def test_the_curve_lies_beside_a_folder_and_elsewhere_under_the_home_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(tmp_path / "mini")
    assert curve_path(".") == curve_path(str(tmp_path / "mini")) == tmp_path / "mini.curve.json"
    monkeypatch.chdir(tmp_path)
    assert curve_path("mini") == tmp_path / "home" / "kinoclip" / "curves" / "mini.curve.json"
    assert curve_path("openai/clip").name == "openai--clip.curve.json"


def test_a_curve_is_read_back_as_it_was_written(folder, curve):
    assert read_curve(str(folder)) == curve


@pytest.mark.parametrize("name", ["processor", "cores", "threads", "torch"])
def test_a_curve_of_another_machine_or_version_is_refused(name, folder, curve):
    environment = {**curve.environment, name: "another"}
    curve_path(str(folder)).write_text(replace(curve, environment=environment).to_json())
    with pytest.raises(ValueError, match=f"measured with {name} another, this is .* Measure it: kinoclip profile"):
        read_curve(str(folder))


def test_a_missing_curve_is_refused_by_naming_the_command_that_measures_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"kinoclip profile .* --data VALIDATION --measure"):
        read_curve(str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [{"points": []}, {"points": [{"setting": {}}]}, {"data": {}}, {"environment": None}, {"further": 1}, None],
)
def test_another_file_is_neither_read_nor_replaced(change, folder, curve):
    path = Path(curve_path(str(folder)))
    path.write_text("[1" if change is None else json.dumps(asdict(curve) | change))
    with pytest.raises(ValueError, match="does not hold measured settings"):
        read_curve(str(folder))
    with pytest.raises(FileExistsError):
        check_owned(path, readable_by(Curve.load))
