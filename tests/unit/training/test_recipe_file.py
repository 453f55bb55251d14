import pytest

from kinoclip.training.recipe_file import parse_rows

AXES = """
[defaults]
method = "bike"
caveats = ["best epoch"]
[axes.clip]
b16 = { title = "B/16", start = "clip-b16" }
l14 = { title = "L/14", start = "clip-l14", training.epochs = 20 }
[axes.data]
k400 = { name = "", title = "K400", dataset = "kinetics400" }
hmdb51 = { title = "HMDB51", dataset = "hmdb51", caveats = "fold 1" }
"""


def rows(text):
    return parse_rows(AXES + text, "mine.toml")


def test_a_row_inherits_settings_and_caveats_but_neither_numbers_nor_notes():
    parsed = rows("""
    [first]
    title = "one"
    caveats = ["best epoch", "own videos"]
    note = "measured twice"
    training = { lr = 0.1, epochs = 3 }
    paper.top1 = 1.0
    [second]
    like = "first"
    caveats = "other words"
    training.epochs = 4
    """)
    assert parsed["first"]["caveats"] == ["best epoch", "own videos"]
    assert parsed["second"] == {
        "method": "bike",
        "title": "one",
        "caveats": ["best epoch", "own videos", "other words"],
        "training": {"lr": 0.1, "epochs": 4},
    }


def test_a_matrix_has_a_row_for_each_combination_the_last_axis_fastest():
    parsed = rows("""
    [t1]
    rows = "t1-{clip}-{data}"
    title = "{data}, {clip}"
    """)
    assert {name: (row["title"], row["dataset"], row["start"]) for name, row in parsed.items()} == {
        "t1-b16": ("K400, B/16", "kinetics400", "clip-b16"),
        "t1-b16-hmdb51": ("HMDB51, B/16", "hmdb51", "clip-b16"),
        "t1-l14": ("K400, L/14", "kinetics400", "clip-l14"),
        "t1-l14-hmdb51": ("HMDB51, L/14", "hmdb51", "clip-l14"),
    }
    assert [row["caveats"] for row in parsed.values()] == [["best epoch"], ["best epoch", "fold 1"]] * 2
    assert list(parsed) == ["t1-b16", "t1-b16-hmdb51", "t1-l14", "t1-l14-hmdb51"]


def test_an_axis_is_its_title_where_people_read_its_name_in_names_of_recipes_and_itself_elsewhere():
    parsed = rows("""
    [t1]
    rows = "t1-{data}"
    table = "Table of {data}"
    start = "bike/base-{data}"
    data = { chinese_labels = "{data}", templates = "a video about {}" }
    evaluation = { gain_over = "bike/t0-{data}", mean_of = ["bike/{data}-a", "bike/b-{data}-c"] }
    """)["t1"]
    assert (parsed["table"], parsed["start"]) == ("Table of K400", "bike/base")
    assert parsed["data"] == {"chinese_labels": "k400", "templates": "a video about {}"}
    assert parsed["evaluation"] == {"gain_over": "bike/t0", "mean_of": ["bike/a", "bike/b-c"]}


def test_rows_of_a_matrix_are_like_rows_of_another_and_settings_of_the_table_replace_those_of_its_axes():
    parsed = rows("""
    [t1]
    rows = "t1-{clip}"
    model.num_frames = 8
    paper.top1 = [80.0, 81.0]
    [t2]
    rows = "t2-{data}-{clip}"
    like = "t1-{clip}"
    start = "bike/t1-{clip}"
    """)
    assert (parsed["t2-hmdb51-l14"]["start"], parsed["t2-hmdb51-l14"]["model"]) == ("bike/t1-l14", {"num_frames": 8})
    assert parsed["t2-hmdb51-l14"]["training"] == {"epochs": 20}
    assert parsed["t1-l14"]["paper"] == {"top1": 81.0}
    assert parsed["t2-hmdb51-l14"]["paper"] == {}


def test_numbers_are_given_to_the_rows_in_their_order_and_nan_is_no_number():
    parsed = rows("""
    [t1]
    rows = "t1-{clip}-{data}"
    paper = { top1 = [[1.0, 2.0], [3.0, nan]], gflops = 5 }
    """)
    assert [row["paper"] for row in parsed.values()] == [
        {"top1": 1.0, "gflops": 5},
        {"top1": 2.0, "gflops": 5},
        {"top1": 3.0, "gflops": 5},
        {"gflops": 5},
    ]


def test_a_matrix_takes_some_values_of_an_axis_and_single_rows_have_settings_of_their_own():
    parsed = rows("""
    [t1]
    rows = "t1-{clip}-{data}"
    only.data = ["hmdb51"]
    except.t1-l14-hmdb51 = { note = "printed twice", training.epochs = 7 }
    """)
    assert list(parsed) == ["t1-b16-hmdb51", "t1-l14-hmdb51"]
    assert "training" not in parsed["t1-b16-hmdb51"]
    assert (parsed["t1-l14-hmdb51"]["training"]["epochs"], parsed["t1-l14-hmdb51"]["note"]) == (7, ["printed twice"])


ERRORS = {
    "an unknown axis": (
        '[t1]\nrows = "t1-{date}"',
        r"\[t1\]: unknown axis 'date'. The nearest known one is 'data'",
    ),
    "an unknown axis in a title": (
        '[t1]\nrows = "t1-{data}"\ntitle = "{clip}"',
        r"\[t1\], '\{clip\}': unknown axis in `rows` 'clip'",
    ),
    "an unknown value": (
        '[t1]\nrows = "t1-{data}"\nonly.data = ["hmdb"]',
        r"unknown value of the axis 'data': 'hmdb'. The nearest known one is 'hmdb51'",
    ),
    "values of an axis that is not used": (
        '[t1]\nrows = "t1-{data}"\nonly.clip = ["b16"]',
        r"unknown axis in `rows` 'clip'",
    ),
    "a value that is no table": ('[axes.a]\nx = 3\n[t1]\nrows = "t1-{a}"', r"axes.a.x must be a table, got 3"),
    "too few numbers": (
        '[t1]\nrows = "t1-{clip}-{data}"\npaper.top1 = [1.0, 2.0, 3.0]',
        r"paper.top1 must have one number for each of 4 rows, got 3. The last axis of 't1-\{clip\}-\{data\}' varies fastest",
    ),
    "a row that is there already": (
        '[t1-b16]\n[t1]\nrows = "t1-{clip}"',
        r"\[t1\]: the name 't1-b16' is used twice",
    ),
    "an exception without its row": (
        '[t1]\nrows = "t1-{data}"\nexcept.t1-hmdb.note = "x"',
        r"unknown row 't1-hmdb'. The nearest known one is 't1-hmdb51'",
    ),
    "a row like none": ('[t1]\nlike = "t0"', r"\[t1\]: t1 is like 't0', but no row above it has that name"),
    "a row that is no table": ("[defaults.model]\n[other]\nrows = 1", r"\[other\]: rows must be a text, got 1"),
    "text that is no TOML": ("[t1", r"mine.toml is not valid TOML"),
}


@pytest.mark.parametrize(("text", "message"), ERRORS.values(), ids=ERRORS)
def test_a_wrong_file_is_refused_with(text, message):
    with pytest.raises(ValueError, match=message):
        rows(text)
