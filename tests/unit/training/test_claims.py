"""Claims are decided by paired tests over videos and seeds, corrected for their number."""

import numpy as np
import pytest

from kinoclip.kinoshapes.figures.benchmark import figure_classes
from kinoclip.training.claims import Claim, decide, find_right, load_claims, render_claims, render_groups
from kinoclip.training.comparison import RowResult
from kinoclip.training.pictures import draw_pictures
from kinoclip.training.recipe import recipe_names

GROUPS = [action.group for action in figure_classes()]


def _row(name, *runs, dataset="kinofigures", gmac=0.1, data="test"):
    """A row that answers class i % 29 of video i rightly where a run has 1, and wrongly where it has 0."""
    answers = []
    for right in runs:
        true = np.arange(len(right)) % 29
        given = np.where(right, true, (true + 1) % 29)
        answers.append({data: {"true": " ".join(map(str, true)), "given": " ".join(map(str, given))}})
    empty = dict.fromkeys(("title", "table", "method", "protocol", "selection"), "")
    lists = {name: [] for name in ("seeds", "folds", "caveats")}
    dicts = {name: {} for name in ("printed", "intervals", "difference")}
    measured = {"gmac": gmac, "trainable_millions": 0.1}
    runs = [{"answers": one, "folder": None} for one in answers]
    return RowResult(recipe=f"file/{name}", dataset=dataset, measured=measured, runs=runs, **empty, **lists, **dicts)


def _right(count, wrong, start=0):
    """All of `count` videos but `wrong` successive ones."""
    right = np.ones(count, int)
    right[start : start + wrong] = 0
    return right


def _verdicts(one, other, **fields):
    return decide([Claim("", "one", "other", **fields)], [_row("one", *one), _row("other", *other)])


def test_a_clear_win_holds_and_a_clear_loss_does_not():
    # 80 of 580 videos: 13.8 points
    (win,), (loss,) = (
        _verdicts([_right(580, 20)], [_right(580, 100)]),
        _verdicts([_right(580, 100)], [_right(580, 20)]),
    )
    assert (win.verdict, win.effect, win.videos, win.seeds) == ("holds", 13.7931, 580, 1)
    assert win.interval[0] > 10
    assert win.p < 0.001
    assert (loss.verdict, loss.effect) == ("does not hold", -13.7931)


def test_no_gain_where_many_videos_exclude_the_margin_does_not_hold():
    same = [_right(1740, 300)]
    assert _verdicts(same, same)[0].verdict == "does not hold"
    assert _verdicts(same, same, direction="not_less")[0].verdict == "holds"


def test_too_few_videos_decide_nothing_even_if_the_rows_never_disagree():
    same = [_right(20, 5)]
    (found,) = _verdicts(same, same)
    assert (found.effect, found.verdict) == (0.0, "undecided")
    assert found.interval[0] < -5


def test_a_loss_within_the_margin_is_allowed_and_a_larger_one_is_not():
    (small,) = _verdicts([_right(1740, 5)], [_right(1740, 0)], direction="not_less")  # 0.3 points
    (large,) = _verdicts([_right(1740, 100)], [_right(1740, 0)], direction="not_less")  # 5.7 points
    assert (small.verdict, large.verdict) == ("holds", "does not hold")


def test_pairing_decides_what_independent_videos_would_not():
    # 25 of 600: 4.2 points; of different videos the interval would be 1.96 * sqrt(2 * 0.25 / 600) = 5.7 points
    assert _verdicts([_right(600, 275)], [_right(600, 300)])[0].verdict == "holds"
    # as many wrong, but others: now the videos disagree on more than half
    assert _verdicts([_right(600, 275)], [_right(600, 300, 300)])[0].verdict == "undecided"


def test_the_number_of_claims_changes_a_verdict():
    rows = [_row("one", _right(580, 20)), _row("other", _right(580, 28))]  # 1.4 points
    claim = Claim("", "one", "other")
    (alone,) = decide([claim], rows)
    many = decide([claim] * 10, rows)
    assert alone.verdict == "holds"
    assert {one.verdict for one in many} == {"undecided"}
    assert many[0].p == pytest.approx(10 * alone.p, rel=0.01)
    # those that were not measured count
    (first,) = decide([claim, *[Claim("", "one", "missing")] * 9], rows)
    assert first.p == many[0].p


def test_a_gain_that_is_a_loss_with_one_seed_is_undecided():
    wins, none, loses = _right(580, 20), _right(580, 60), _right(580, 80)
    assert _verdicts([wins] * 3, [none] * 3)[0].verdict == "holds"
    assert _verdicts([wins, wins, loses], [none] * 3)[0].verdict == "undecided"


def test_a_row_without_training_is_paired_with_every_seed():
    (found,) = _verdicts([_right(580, 20)] * 3, [_right(580, 100)])
    assert (found.seeds, found.verdict) == (3, "holds")


def test_a_group_of_classes_is_tested_alone():
    is_reversed = np.array([GROUPS[i % 29] == "reversed" for i in range(580)])
    (found,) = _verdicts([np.ones(580, int)], [1 - is_reversed], on="reversed")
    assert (found.effect, found.videos) == (100.0, 160)  # eight classes of 20 videos
    more = _row("one", is_reversed, dataset="kinofigures/actions:640")
    assert find_right(more, "reversed").shape == (1, 160)
    assert _verdicts([np.ones(580, int)], [1 - is_reversed], on="object")[0].effect == 0.0


def test_data_sets_with_the_same_classes_are_pooled_and_others_are_not():
    rows = [_row("one", _right(58, 0)), _row("other", _right(58, 8))]
    for row, right in zip(rows, (_right(29, 0), _right(29, 29)), strict=True):
        for name in ("views", "unseen"):
            row.runs[0]["answers"] |= _row("", right, data=name).runs[0]["answers"]
    both, unseen = decide([Claim("", "one", "other"), Claim("", "one", "other", on="unseen")], rows)
    assert (both.videos, unseen.videos) == (87, 29)
    assert both.effect == pytest.approx(100 * 37 / 87, abs=1e-3)
    assert "| one |  | 100.0% |" in "\n".join(render_groups(rows))


def test_unequal_costs_leave_a_claim_of_equal_costs_undecided():
    rows = [_row("one", _right(580, 20), gmac=0.2), _row("other", _right(580, 100))]
    free, equal = (decide([Claim("", "one", "other", equal_cost=equal)], rows)[0] for equal in (False, True))
    assert (free.verdict, equal.verdict, equal.cost) == ("holds", "undecided", 2.0)


def test_a_claim_about_a_row_that_was_not_measured_is_left_out():
    assert decide([Claim("", "one", "missing")], [_row("one", _right(20, 2))]) == []


def test_rows_of_more_videos_are_compared_on_those_of_the_other_row():
    rows = [_row("one", _right(580, 0)), _row("other", _right(58, 29))]
    for row, count in zip(rows, (29, 290), strict=True):
        row.runs[0]["answers"] |= _row("", _right(count, 0), data="views").runs[0]["answers"]
    (found,) = decide([Claim("", "one", "other")], rows)
    assert found.videos == 58 + 29
    assert found.effect == pytest.approx(100 * 29 / 87, abs=1e-3)


def test_rows_of_different_videos_are_refused():
    one, other = _row("one", _right(20, 2)), _row("other", _right(20, 2))
    other.runs[0]["answers"]["test"]["true"] = " ".join(map(str, reversed(range(20))))
    with pytest.raises(ValueError, match="file/one and file/other were measured on different videos"):
        decide([Claim("", "one", "other")], [one, other])
    with pytest.raises(ValueError, match="file/one and file/other were measured on different videos"):
        decide([Claim("", "one", "other")], [one, _row("other", _right(20, 2), data="views")])


def test_the_table_names_claim_rows_effect_and_verdict():
    lines = "\n".join(render_claims(_verdicts([_right(580, 20)], [_right(580, 100)], paper="BIKE")))
    assert "1 claims: 1 hold, 0 do not, 0 are undecided" in lines
    assert "| BIKE:  | one, other | all | 580 x 1 | +13.8 |" in lines


@pytest.mark.parametrize("file", ["benchmark", "kinofigures"])
def test_every_claim_compares_rows_of_its_file(file):
    claims = load_claims(file)
    assert {f"{file}/{name}" for one in claims for name in (one.row, one.over)} <= set(recipe_names())
    assert len({(one.paper, one.text) for one in claims}) == len(claims) > 25


def test_a_claim_with_an_unknown_key_is_refused(monkeypatch):
    monkeypatch.setattr("kinoclip.training.claims.read_table", lambda *_: {"BIKE": [{"rows": "a"}]})
    with pytest.raises(ValueError, match=r"x.toml, \[claims\]: unknown setting 'BIKE.rows'"):
        load_claims("x")


def test_rows_with_more_test_clips_are_in_the_picture_and_those_with_more_training_clips_are_not(tmp_path):
    pytest.importorskip("matplotlib")
    datasets = {"one": "kinofigures", "other": "kinofigures/actions:64:8:80", "third": "kinofigures/actions:512:8:80"}
    rows = [_row(name, _right(580, 20), dataset=dataset) for name, dataset in datasets.items()]
    draw_pictures(tmp_path, rows, "rows")
    picture = (tmp_path / "rows-cost.svg").read_text(encoding="utf-8")
    assert [name for name in datasets if f">{name}<" in picture or f"<!-- {name} -->" in picture] == ["one", "other"]
