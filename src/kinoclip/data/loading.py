"""One door for videos with labels: folders, tables, lists, official annotations, shards, the Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from kinoclip.text.labels import load_names

from .annotations import TABLE_SUFFIXES, Annotations, Entry, class_order, read_annotations
from .building import build_dataset
from .catalog import DatasetFacts, dataset_facts
from .columns import from_columns, load_shards
from .coverage import Coverage
from .layouts import FileTree, class_folders, split_name
from .official import Wanted, read_official, recognize

if TYPE_CHECKING:
    import datasets

Layout = Literal["folders", "table", "list", "official", "webdataset", "parquet", "saved", "hub"]

_ENDINGS: dict[str, Layout] = {
    **dict.fromkeys(TABLE_SUFFIXES, "table"),
    ".txt": "list",
    ".tar": "webdataset",
    ".parquet": "parquet",
}


def load_videos(
    source: str | Path | datasets.Dataset | datasets.IterableDataset,
    *,
    split: str | None = None,
    layout: Layout | None = None,
    dataset: str | None = None,
    fold: int = 1,
    labels: str | Path | Sequence[str] | None = None,
    videos: str | Path | None = None,
    segments: bool = False,
    streaming: bool = False,
) -> datasets.Dataset | datasets.IterableDataset:
    """Load videos and labels, whatever way they lie there; no video is opened, and nothing but `hub` is downloaded.

    Gives the columns `video` ({"path", "bytes"}), `label` (a class; a list of them where videos have several), `name` (unique),
    and `start`, `end` (seconds) or `fps` where there are parts of videos or frames. `Coverage.of` says what was found.

    | layout | source |
    |---|---|
    | folders | `class/x.mp4` or `split/class/x.mp4`; a folder of frame images is a video |
    | table | a CSV with a header or JSON lines, or a folder with one (`metadata.jsonl`, `train.csv`); see `read_table` |
    | list | lines "PATH LABEL" or "PATH FRAMES LABEL", or a folder with such (`train.txt`) |
    | official | a folder with the annotation files of a data set of the catalog |
    | webdataset, parquet | shards, or a folder of them |
    | saved | a folder of `Dataset.save_to_disk` |
    | hub | the name of a data set on the Hub; or a data set that is loaded already |

    Args:
        source: see above.
        split: "train", "validation" or "test". None takes all that official annotations label; elsewhere there must be one
            split alone, or none.
        layout: None finds out.
        dataset: name in the catalog, for official annotations and sizes.
        fold: of UCF101 and HMDB51.
        labels: names of the classes in their order, a file of them, or a packaged set. Without it the order is the data set's
            own, or that of the alphabet.
        videos: folder of the videos, if it is not where the annotations lie.
        segments: a row for each annotated interval (ActivityNet, Charades), instead of each video.
        streaming: give an `IterableDataset`.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: nothing is found, or more than one thing could be meant; the message says what to do.
    """
    split = _check_split(split)
    facts = None if dataset is None else dataset_facts(dataset)
    names = None if labels is None else load_names(labels)
    coverage = Coverage(dataset, split, "hub", None if facts is None else facts.official_size(split, fold))
    if not isinstance(source, str | Path):
        return from_columns(source, names, coverage, streaming)
    if layout is None:
        layout, facts = _detect(source, facts, split)
    elif layout not in get_args(Layout):
        raise ValueError(f"There is no layout {layout!r}. Use one of {', '.join(get_args(Layout))}, or leave it out.")
    coverage = replace(coverage, layout=layout)
    if layout in ("webdataset", "parquet", "saved", "hub"):
        return from_columns(load_shards(source, layout, streaming), names, coverage, streaming)
    if facts is not None:
        coverage = replace(coverage, dataset=facts.name, expected=facts.official_size(split, fold))
    here = FileTree(_folder(source))
    files = here if videos is None else FileTree(videos)
    known = names or (facts.class_names if facts else None)
    if layout == "folders":
        annotations = _read_folders(files, split, known, facts)
    elif layout == "official":
        annotations = _read_official(here, facts, split, fold, segments, names)
    else:
        annotations = _read_table(Path(source), here, split, known)
    classes = names or annotations.classes or class_order([label for e in annotations.entries for label in e.labels])
    fps = facts.frames_per_second if facts else None
    loaded = build_dataset(annotations, files, classes, fps, coverage)
    if not len(loaded):
        raise ValueError(_nothing_found(files, annotations, facts))
    return loaded.to_iterable_dataset() if streaming else loaded


def _check_split(split: str | None) -> str | None:
    if split is not None and split_name(split) is None:
        raise ValueError(f"There is no split {split!r}. Use 'train', 'validation' or 'test'.")
    return split_name(split)


def _folder(source: str | Path) -> Path:
    path = Path(source)
    return path.parent if path.is_file() else path


def _detect(source: str | Path, facts: DatasetFacts | None, split: str | None) -> tuple[Layout, DatasetFacts | None]:
    """Find out how videos lie there, and of which data set of the catalog."""
    path = Path(source)
    if not path.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
            return "hub", facts
        raise FileNotFoundError(f"There is no file or folder {source}.")
    if path.is_file() and facts is None:
        if path.suffix.lower() not in _ENDINGS:
            raise ValueError(
                f"{path} is no list of videos. Give a folder, or a file that ends in {', '.join(_ENDINGS)}."
            )
        return _ENDINGS[path.suffix.lower()], None
    if any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        return "saved", facts
    files = FileTree(_folder(path))
    if facts is None and recognize(files):
        facts = dataset_facts(str(recognize(files)))
    if facts is not None and any(Wanted(facts, files, split).files()):
        return "official", facts
    for ending in (".tar", ".parquet"):
        if any(other.endswith(ending) for other in files.others):
            return _ENDINGS[ending], facts
    return _detect_files(files, facts, split), facts


def _detect_files(files: FileTree, facts: DatasetFacts | None, split: str | None) -> Layout:
    """Tell a folder with a table or a list from folders of classes."""
    tables = _tables(files, split)
    has_classes = bool(class_folders(files.videos, facts.class_names if facts else None))
    if tables and has_classes and not tables[0].rpartition("/")[2].startswith("metadata."):
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


def _tables(files: FileTree, split: str | None) -> list[str]:
    """List the files that may say the labels: metadata.jsonl, train.csv, or the only table there is."""
    candidates = {
        path: (path.count("/"), Path(path).stem, Path(path).suffix.lower())
        for path in files.others
        if Path(path).suffix.lower() in _ENDINGS
    }
    metadata = [
        p for p, (_, stem, suffix) in candidates.items() if stem == "metadata" and suffix in (".csv", ".jsonl")
    ]
    named = [p for p, (depth, stem, _) in candidates.items() if depth == 0 and split_name(stem)]
    others = [p for p, (depth, _, suffix) in candidates.items() if depth == 0 and suffix in (".csv", ".tsv", ".jsonl")]
    found = metadata or named or others
    if split is not None:
        own = [p for p in found if split in (split_name(Path(p).stem), split_name(p.partition("/")[0]))]
        found = own or [p for p in found if not split_name(Path(p).stem) and not split_name(p.partition("/")[0])]
    return found


def _read_official(
    here: FileTree, facts: DatasetFacts | None, split: str | None, fold: int, segments: bool, names: list[str] | None
) -> Annotations:
    if facts is None:
        raise ValueError("The layout 'official' needs the name of the data set, such as dataset='ucf101'.")
    read = read_official(Wanted(facts, here, split, fold, segments, names))
    if read is None:
        raise ValueError(f"{here.root}: {facts.annotations} are not there. Get them from {facts.source}.")
    return read


def _read_table(path: Path, here: FileTree, split: str | None, names: list[str] | None) -> Annotations:
    tables = [path.name] if path.is_file() else _tables(here, split)
    if len(tables) != 1:
        found = ", ".join(tables[:4]) or "none"
        raise ValueError(f"{path}: one table or list is needed, and there are: {found}. Name the file, or the split.")
    read = read_annotations(here.root / tables[0], names, split)
    if names is None and path.is_dir():  # the tables of all splits have one order of classes
        every = [read_annotations(here.root / table, None, split).classes or [] for table in _tables(here, None)]
        read = replace(read, classes=class_order([label for classes in every for label in classes]))
    folder = tables[0].rpartition("/")[0]
    entries = (replace(e, names=(f"{folder}/{e.names[0]}", *e.names)) if folder else e for e in read.entries)
    return replace(read, entries=tuple(entries))


def _read_folders(
    files: FileTree, split: str | None, names: Sequence[str] | None, facts: DatasetFacts | None
) -> Annotations:
    found = class_folders(files.videos, names)
    splits = sorted({one for one, _ in found.values() if one})
    if split is not None and split not in splits:
        where = f" or get {facts.annotations} from {facts.source}" if facts else ", or divide it: kinoclip.data.divide"
        raise ValueError(
            f"{files.root} has no folder of the split {split!r}, but {', '.join(splits) or 'none'}. Leave split= out{where}."
        )
    if split is None and len(splits) > 1:
        raise ValueError(f"{files.root} holds the splits {', '.join(splits)}. Say which: split={splits[0]!r}.")
    classes = list(names) if names else class_order([label for _, label in found.values()])
    entries = [Entry((path,), (label,)) for path, (one, label) in found.items() if split in (None, one)]
    return Annotations(tuple(entries), classes)


def _nothing_found(files: FileTree, annotations: Annotations, facts: DatasetFacts | None) -> str:
    if not annotations.entries:
        return f"{files.root}: there is no labelled video of that split."
    named = f" Files of {facts.title} are named {facts.files}." if facts else ""
    return (
        f"None of the {len(annotations.entries):,} listed videos lies in {files.root}; the first is "
        f"{annotations.entries[0].names[0]}. Say with videos= where they are.{named}"
    )
