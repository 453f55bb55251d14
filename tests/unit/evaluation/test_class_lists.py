"""Sets of classes that are scored by themselves."""

import pytest

from kinoclip.evaluation.class_lists import class_ids, find_class_list, find_class_lists

COLORS = ["blue", "green", "red", "white", "yellow"]


def test_the_three_lists_of_kinetics_600_are_the_published_ones():
    lists = [find_class_list(f"kinetics600/{number}", []) for number in (1, 2, 3)]
    assert [len(names) for names in lists] == [160, 160, 160]
    assert len(set().union(*lists)) == 217
    assert lists[0][:4] == ["acting in play", "adjusting glasses", "arguing", "attending conference"]
    assert lists[1][-2:] == ["weaving fabric", "winking"]
    assert lists[2][158:] == ["winking", "wood burning (art)"]


def test_base_and_novel_classes_are_the_halves():
    assert find_class_list("base", COLORS) == COLORS[:3]
    assert find_class_list("novel", COLORS) == COLORS[3:]


def test_files_are_read_with_or_without_ids(tmp_path):
    (tmp_path / "plain.txt").write_text("red\nblue\n")
    (tmp_path / "table.csv").write_text("id,name\n0,red\n1,blue\n")
    found = find_class_lists([str(tmp_path / "plain.txt"), str(tmp_path / "table.csv"), "base"], COLORS)
    assert found == {"plain": ["red", "blue"], "table": ["red", "blue"], "base": ["blue", "green", "red"]}


def test_two_files_of_one_name_are_refused(tmp_path):
    for ending in ("txt", "csv"):
        (tmp_path / f"some.{ending}").write_text("id,name\n0,red\n")
    with pytest.raises(ValueError, match="have the same name"):
        find_class_lists([str(tmp_path / "some.txt"), str(tmp_path / "some.csv")], COLORS)


def test_an_unknown_list_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match=r"must be one of base, novel, kinetics600/1.* got 'kinetics600/4'"):
        find_class_list("kinetics600/4", COLORS)


def test_spellings_are_matched_and_a_class_that_is_not_there_is_named():
    assert class_ids("some", ["Light Red", "blue"], ["blue", "light_red"]) == [1, 0]
    with pytest.raises(ValueError, match="lacks 1 of the 2 classes of the list 'some', such as 'pink'"):
        class_ids("some", ["blue", "pink"], COLORS)
