"""Rows, data and the output folder of `reproduce`; what it trains and measures is in `tests/end_to_end/test_reproduce.py`."""

from dataclasses import replace

import pytest

from kinoclip.training.comparison import Run, compare, mean_row, render
from kinoclip.training.recipe import load_recipe
from kinoclip.training.reproduce import DataSources, Options, _Job, reproduce


def test_a_start_for_an_unknown_recipe_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"Unknown recipe 'bike/t6a-frozn'. The nearest known one is 'bike/t6a-frozen'"
    ):
        reproduce(["bike/t6e-va"], [], tmp_path / "out", Options(smoke=True, starts={"bike/t6a-frozn": "somewhere"}))
    assert not (tmp_path / "out").exists()


def test_data_sets_are_found_by_name_in_a_folder_or_in_one_source(tmp_path):
    recipe = load_recipe("alt/t2-hmdb51-b16-2")
    (tmp_path / "hmdb51").mkdir()
    assert DataSources(["hmdb51=org/hmdb"]).find(recipe) == "org/hmdb"
    assert DataSources([str(tmp_path)]).find(recipe) == str(tmp_path / "hmdb51")
    assert DataSources(["all", "ucf101=other"]).find(recipe) == "all"
    with pytest.raises(ValueError, match=r"alt/t2-hmdb51-b16-2 needs hmdb51, but there is no --data for it"):
        DataSources(["ucf101=other"]).find(recipe)
    with pytest.raises(ValueError, match="--data is given twice for hmdb51"):
        DataSources(["hmdb51=a", "hmdb51=b"])


def test_kinoshapes_needs_no_data():
    assert DataSources([]).find(load_recipe("benchmark/bike")) == "kinoshapes/actions"


def test_a_benchmark_is_drawn_with_as_many_clips_as_its_data_names():
    sources = DataSources(["kinofigures=kinofigures/actions:16:4", "hmdb51=x:3"])
    assert sources.find(load_recipe("kinofigures/bike")) == "kinofigures/actions:16:4"
    assert sources.find(load_recipe("kinofigures/details-mean")) == "kinofigures/details:16:4"
    assert sources.find(load_recipe("kinofigures/more-bike-transformer")) == "kinofigures/actions:16:4"
    assert DataSources([]).find(load_recipe("kinofigures/more-bike-transformer")) == "kinofigures/actions:512:8:80"
    assert sources.draw("kinofigures/views") == "kinofigures/views:16:4"
    assert sources.draw("kinoshapes/unseen") == "kinoshapes/unseen"


def test_quick_takes_the_rows_and_settings_of_the_file_and_refuses_others(tmp_path):
    with pytest.raises(ValueError, match="bike/t6a-vcs has no rows for --quick"):
        reproduce(["bike/t6a-vcs"], [], tmp_path / "out", Options(quick=True))
    job = _Job(tmp_path, DataSources([]), Options(quick=True, settings={"training.lr": 0.5}), print)
    recipe = job.recipe("kinofigures/bike")
    assert (recipe.training.epochs, recipe.training.lr) == (6, 0.5)
    assert job.recipe("kinofigures/clip").training.epochs == 0


def test_the_learning_rate_is_chosen_on_validation_videos(tmp_path, monkeypatch):
    trained = []

    def train(job, recipe):
        trained.append(recipe.training.lr)
        folder = tmp_path / f"{recipe.training.lr}"
        folder.mkdir()
        (folder / "training.json").write_text(f'{{"best": {{"value": {1 - abs(recipe.training.lr - 1e-3)}}}}}')
        return folder

    monkeypatch.setattr(_Job, "_train", train)
    job = _Job(tmp_path, DataSources([]), Options(), print)
    chosen = job._choose_rate(job.recipe("kinofigures/bike"))
    assert (trained, chosen.training.lr) == ([3e-4, 1e-3, 3e-3], 1e-3)
    assert chosen.caveats[-1] == "learning rate 0.001 of 0.0003, 0.001, 0.003, by validation videos"
    assert job._choose_rate(job.recipe("kinofigures/clip")) == job.recipe("kinofigures/clip")


def test_a_file_takes_the_place_of_one_that_a_recipe_reads_and_no_other(tmp_path):
    options = Options(settings={"data.attributes": "mine.json", "training.epochs": 2})
    job = _Job(tmp_path, DataSources([]), options, print)
    child, parent = job.recipe("bike/t6e-va"), job.recipe("bike/t6a-frozen")
    assert (child.data["attributes"], parent.data["attributes"]) == ("mine.json", None)
    assert (child.training.epochs, parent.training.epochs) == (2, 2)


def _run(seed, top1, **costs):
    """A run with an accuracy on 100 videos."""
    measurement = {
        "metrics": {"top1": top1},
        "intervals": {"top1": (top1 - 0.1, top1 + 0.1)},
        "costs": {"params_millions": 1.0, **costs},
        "num_videos": 100,
        "per_class": [],
        "failures": {},
        "settings": {"coverage": {"expected": 120, "found": 100}},
    }
    training = {"seconds": 90.0, "memory_mb": 50.0, "training_videos_per_second": 2.0, "precision": "no"}
    return Run(seed, 1, "run", measurement, training)


def _recipe(**changes):
    return replace(load_recipe("tam/k400-r50-8f"), caveats=(), **changes)


def test_runs_are_averaged_and_set_beside_the_printed_numbers():
    recipe = _recipe(paper={"top1_mean": 60.0, "top1_std": 1.0, "minutes": 1.0})
    found = compare(recipe, [_run(0, 0.5), _run(1, 0.6), _run(2, 0.7)], None, [])
    # 50, 60, 70: mean 60, population deviation sqrt(200 / 3), t interval 60 +- 4.303 * 10 / sqrt(3)
    assert found.measured["top1"] == 60.0
    assert found.measured["top1_std"] == pytest.approx(8.165, abs=1e-3)
    assert found.intervals["top1"] == pytest.approx((35.156, 84.844), abs=1e-2)
    assert found.difference == {"top1_mean": 0.0, "top1_std": 7.165, "minutes": 0.5}
    assert (found.seeds, found.measured["memory_mb"]) == ([0, 1, 2], 50.0)


def test_what_some_runs_lack_is_averaged_over_the_others():
    runs = [_run(0, 0.5), _run(1, 0.6, entity_on_part=0.2), _run(2, 0.7, entity_on_part=0.4)]
    assert compare(_recipe(), runs, None, []).measured["entity_on_part"] == pytest.approx(0.3)
    assert compare(_recipe(), runs[::-1], None, []).measured["entity_on_part"] == pytest.approx(0.3)


def test_one_run_has_the_interval_of_its_videos():
    found = compare(_recipe(paper={"top1": 52.0}), [_run(0, 0.5)], None, [])
    assert found.intervals["top1"] == (40.0, 60.0)
    assert found.difference == {"top1": -2.0}
    assert "top1_std" not in found.measured


def test_a_gain_is_the_difference_to_another_row():
    base = compare(_recipe(), [_run(0, 0.4)], None, [])
    assert compare(_recipe(paper={"top1_gain": 5.5}), [_run(0, 0.5)], base, []).difference == {"top1_gain": 4.5}


def test_a_row_of_means_averages_other_rows():
    rows = [compare(_recipe(), [_run(0, top1)], None, []) for top1 in (0.4, 0.5)]
    found = mean_row(_recipe(paper={"top1_mean": 46.0}), rows)
    assert (found.measured["top1"], found.difference["top1_mean"]) == (45.0, -1.0)
    assert found.caveats[0].startswith("mean of tam/k400-r50-8f, ")


def test_a_result_lists_its_limitations():
    selecting = _recipe(evaluation={**_recipe().evaluation, "selection": "test"})
    found = compare(selecting, [_run(0, 0.5)], None, ["smoke"])
    assert found.caveats == [
        "smoke",
        "best epoch on the test videos themselves (biased upwards)",
        "measured on 100 of 120 test videos",
    ]
    assert "- smoke (k400-r50-8f)" in render([found])


def test_the_table_shows_printed_measured_and_difference():
    text = render([compare(_recipe(paper={"top1": 52.0}), [_run(0, 0.5)], None, [])])
    assert "| top1 | 52.00 | 50.00 | 40.00 to 60.00 | -2.00 |" in text
    assert "| single_view | last | 1 | 1.00 |" in text


def test_a_folder_takes_other_rows_and_seeds_but_not_other_options(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "kinoclip.training.reproduce._Job.row", lambda *_: compare(_recipe(), [_run(0, 0.5)], None, [])
    )
    reproduce(["finetune"], [], tmp_path, Options(smoke=True))
    with pytest.raises(ValueError, match=r"holds a run with strict = False, and it is True now"):
        reproduce(["finetune"], [], tmp_path, Options(smoke=True, strict=True))
    both = ["finetune", "bike/t6a-vcs"]
    assert len(reproduce(both, [], tmp_path, Options(smoke=True, num_workers=1, seeds=2))) == 2
