"""A pytest plugin that ends `make chaos` with a table: what was attacked, how often, and how it ended."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

_COLUMNS = ("attacks", "frames or answers", "one clear error", "lost")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    rows: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            path, _, test = report.nodeid.partition("::")
            is_counted = dict(report.user_properties).get("outcomes")
            name = test.partition("[")[0].removeprefix("test_").replace("_", " ") if is_counted else Path(path).stem
            row = rows.setdefault(
                f"{Path(path).stem.removeprefix('test_')}: {name}" if is_counted else path, Counter()
            )
            # a test that counts nothing itself is one attack
            row.update(is_counted or {"frames": int(outcome == "passed")})
            row["lost"] += outcome == "failed" and not (is_counted or {}).get("lost")
    lines = [f"| | {' | '.join(_COLUMNS)} |", "|---|" + "---:|" * len(_COLUMNS)]
    for name, row in [*sorted(rows.items()), ("all", sum(rows.values(), Counter()))]:
        counts = (row["frames"] + row["error"] + row["lost"], row["frames"], row["error"], row["lost"])
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    terminalreporter.write_sep("=", "attacks")
    terminalreporter.write_line("\n".join(lines))
