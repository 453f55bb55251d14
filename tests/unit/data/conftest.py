from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def plant(tmp_path) -> Callable[..., Path]:
    """A function that writes files into a folder, empty or with text, and returns the folder."""

    def put(*empty: str, **options: dict[str, str]) -> Path:
        for name, text in {**dict.fromkeys(empty, ""), **options.get("texts", {})}.items():
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / "data"

    return put
