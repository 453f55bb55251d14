"""CSV tables that a person edits in a spreadsheet."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from kinoclip.storage import escape_text, readable_by, unescape_text, write_text
from kinoclip.text.parsing import read_text

Row = dict[str, str]
KEPT, REJECTED = "yes", "no"  # decisions in a column `keep`
REVIEWED = "reviewed"  # source of what a person edited or added


@dataclass(frozen=True)
class Table:
    """The rows of a table, with the columns that a person added. A subclass for each kind of table names its columns.

    Args:
        rows: cells by the name of the column.
        lines: the line of each row in the file.
        delimiter: between the cells; some spreadsheets write semicolons.

    Attributes:
        columns: in the order of the file; columns that a person adds follow.
        required: columns that a table must have to be read.
        own: columns that a table must have to be replaced: others are not of the command.
        command: that writes such tables.
    """

    columns: ClassVar[tuple[str, ...]]
    required: ClassVar[tuple[str, ...]]
    own: ClassVar[tuple[str, ...]]
    command: ClassVar[str]
    rows: list[Row]
    lines: Sequence[int] = ()
    delimiter: str = ","

    @classmethod
    def load(cls, path: str | Path, required: Sequence[str] | None = None) -> Self:
        """Read a table of `save` or of a spreadsheet: columns in any order; commas, semicolons or tabs; empty rows are skipped.

        Args:
            path: the table.
            required: columns that it must have, by default those of the class.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: it is not a table, or a column is missing.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist. Make it with `{cls.command}`.")
        text = read_text(path)
        header = text.partition("\n")[0]
        delimiter = max(",;\t", key=header.count)
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        rows, lines = [], []
        try:
            names = [name.strip().lower() for name in next(reader, [])]
            for name in cls.required if required is None else required:
                if names.count(name) != 1:
                    raise ValueError(
                        f"{path} must have one column {name!r}, and has: {header.strip() or 'none'}. Keep the first line as "
                        f"`{cls.command}` wrote it."
                    )
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    named = zip(names, [*cells, *[""] * len(names)], strict=False)
                    row = {name: unescape_text(cell.strip()) for name, cell in named if name}
                    rows.append(dict.fromkeys(cls.columns, "") | row)
                    lines.append(reader.line_num)
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {reader.line_num}: {error}. Save it as CSV from the spreadsheet again."
            ) from error
        return cls(rows, lines, delimiter)

    def save(self, path: str | Path) -> None:
        """Write the table atomically, with the byte order mark by which spreadsheets recognize UTF-8.

        Raises:
            FileExistsError: the file exists and is not such a table.
        """
        text = io.StringIO()
        columns = dict.fromkeys((*self.columns, *(name for row in self.rows for name in row)))
        writer = csv.DictWriter(text, columns, restval="", delimiter=self.delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: escape_text(cell, cell=True) for name, cell in row.items()} for row in self.rows)
        write_text(path, "\ufeff" + text.getvalue(), owns=readable_by(self.load_own))

    @classmethod
    def load_own(cls, path: str | Path) -> Self:
        """Read a table that `save` may replace."""
        return cls.load(path, cls.own)

    def position(self, number: int) -> str:
        """Return how a message names a row."""
        return f"line {self.lines[number]}" if self.lines else f"row {number + 1}"

    def decision(self, number: int) -> str:
        """Return what a person decided in the column `keep` of a row: "yes", "no" or nothing; else raise a `ValueError`."""
        keep = self.rows[number]["keep"].casefold()
        if keep not in ("", KEPT, REJECTED):
            raise ValueError(
                f"{self.position(number)}: keep must be {KEPT}, {REJECTED} or empty, got {self.rows[number]['keep']!r}."
            )
        return keep
