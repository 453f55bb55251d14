"""Tables that a person edits: what was written is read back, from any spreadsheet."""

import pytest

from kinoclip.text.tables import Table


class Notes(Table):
    columns = ("name", "note")
    required = own = ("name",)
    command = "kinoclip notes"


ROWS = [{"name": "=1+1", "note": "a\x1b[2J"}, {"name": " two spaces ", "note": "x,y;z"}, {"name": "-", "note": ""}]


def test_cells_come_back_whatever_they_hold(tmp_path):
    Notes(ROWS).save(tmp_path / "notes.csv")
    text = (tmp_path / "notes.csv").read_text(encoding="utf-8-sig")
    assert not any(line.startswith(("=", "-", " ")) for line in text.splitlines())  # no formula for a spreadsheet
    assert "\x1b" not in text
    assert Notes.load(tmp_path / "notes.csv").rows == ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_that_a_person_added_are_kept(tmp_path, delimiter):
    path = tmp_path / "notes.csv"
    path.write_text(delimiter.join(["mine", "name"]) + "\n" + delimiter.join(["yes", "a"]) + "\n\n")
    table = Notes.load(path)
    assert (table.rows, table.lines, table.delimiter) == ([{"name": "a", "note": "", "mine": "yes"}], [2], delimiter)
    table.save(path)
    assert path.read_text(encoding="utf-8-sig").splitlines() == [
        delimiter.join(["name", "note", "mine"]),
        delimiter.join(["a", "", "yes"]),
    ]


def test_a_table_of_somebody_else_is_not_replaced(tmp_path):
    (tmp_path / "notes.csv").write_text("other\n1\n")
    with pytest.raises(FileExistsError):
        Notes(ROWS).save(tmp_path / "notes.csv")
    assert (tmp_path / "notes.csv").read_text() == "other\n1\n"
    with pytest.raises(FileNotFoundError, match="Make it with `kinoclip notes`"):
        Notes.load(tmp_path / "none.csv")
