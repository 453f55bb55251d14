"""Find out how videos and their labels lie in a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from .annotations import TABLE_SUFFIXES
from .catalog import DatasetFacts, dataset_facts
from .layouts import FileTree, class_folders, split_name
from .official import Wanted, recognize

Layout = Literal["folders", "table", "list", "official", "webdataset", "parquet", "saved", "hub"]

_ENDINGS: dict[str, Layout] = {
    **dict.fromkeys(TABLE_SUFFIXES, "table"),
    ".txt": "list",
    ".tar": "webdataset",
    ".parquet": "parquet",
}


def folder_of(source: str | Path) -> Path:
    """Give a folder itself, or the one a file lies in."""
    path = Path(source)
    return path.parent if path.is_file() else path


def detect_layout(
    source: str | Path, facts: DatasetFacts | None, split: str | None
) -> tuple[Layout, DatasetFacts | None]:
    """Find out how videos lie there, and of which data set of the catalog.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: nothing says the labels, or more than one thing may.
    """
    path = Path(source)
    if not path.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
            return "hub", facts
        raise FileNotFoundError(f"There is no file or folder {source}.")
    files = FileTree(folder_of(path))
    if path.is_file():
        if facts is not None and any(file == path for file, _ in Wanted(facts, files, split).files()):
            return "official", facts
        if path.suffix.lower() not in _ENDINGS:
            raise ValueError(
                f"{path} is no list of videos. Give a folder, or a file that ends in {', '.join(_ENDINGS)}."
            )
        return _ENDINGS[path.suffix.lower()], facts
    if any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        return "saved", facts
    known = recognize(files) if facts is None else facts.name
    if known is not None and any(Wanted(dataset_facts(known), files, split).files()):
        return "official", dataset_facts(known)
    return _detect_files(files, facts, split), facts


def find_tables(files: FileTree, split: str | None) -> list[str]:
    """List the files that may say the labels: metadata.jsonl, else train.csv and the like, else any table at the top.

    With a split, those of this split alone, and those that do not say of which they are.
    """
    kinds = {path: Path(path).suffix.lower() for path in files.others}
    tables = [path for path, kind in kinds.items() if kind in TABLE_SUFFIXES or kind == ".txt"]
    top = [path for path in tables if "/" not in path]
    metadata = [path for path in tables if Path(path).name in ("metadata.csv", "metadata.jsonl")]
    named = [path for path in top if split_name(Path(path).stem)]
    found = metadata or named or [path for path in top if kinds[path] in (".csv", ".tsv", ".jsonl")]
    if split is None:
        return found
    own = [path for path in found if is_table_of(path, split)]
    return own or [
        path for path in found if not any(is_table_of(path, one) for one in ("train", "validation", "test"))
    ]


def is_table_of(path: str, split: str) -> bool:
    """Tell whether a file is of a split, by its name or that of its folder."""
    return split in (split_name(Path(path).stem), split_name(path.partition("/")[0]))


def _detect_files(files: FileTree, facts: DatasetFacts | None, split: str | None) -> Layout:
    """Tell shards, tables, lists and folders of classes apart."""
    endings = {Path(path).suffix.lower() for path in files.others}
    for ending in (".tar", ".parquet"):
        if ending in endings and not files.videos:
            return _ENDINGS[ending]
    tables = find_tables(files, split) or find_tables(files, None)
    has_classes = bool(class_folders(files.videos, facts.class_names if facts else None))
    if tables and has_classes and not Path(tables[0]).stem == "metadata":
        raise ValueError(
            f"{files.root} holds {tables[0]} and folders that may be classes. Say which counts: layout='table', 'list' or "
            "'folders'."
        )
    if tables:
        return _ENDINGS[Path(tables[0]).suffix.lower()]
    if has_classes:
        return "folders"
    where = "" if facts is None else f" Get {facts.annotations} from {facts.source}."
    raise ValueError(
        f"{files.root} holds {len(files.videos)} videos and nothing that says their labels. Put them into folders of their class, "
        f"or write a CSV with the columns video and label.{where}"
    )
