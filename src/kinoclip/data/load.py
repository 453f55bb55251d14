"""Load labelled videos: folders, tables, lists, official annotations, shards, the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from kinoclip.data.annotations import TABLE_SUFFIXES, Annotations, Entry, class_order, read_annotations
from kinoclip.data.catalog import AnnotationQuery, DatasetFacts, dataset_facts, read_official, recognize
from kinoclip.data.columns import build_dataset, from_columns, load_shards
from kinoclip.data.coverage import Coverage
from kinoclip.data.files import FileTree, MissingSplitError, class_folders, is_hub_id, split_name
from kinoclip.kinoshapes.benchmarks import BENCHMARKS, split_source
from kinoclip.kinoshapes.clips import SPLITS, Split
from kinoclip.kinoshapes.files import CLIPS_PER_CLASS
from kinoclip.text.labels import load_names

if TYPE_CHECKING:
    import datasets

Layout = Literal["folders", "table", "list", "official", "webdataset", "parquet", "saved", "hub"]

_LAYOUTS: dict[str, Layout] = {
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
    """Load videos and labels in any common layout; no video is opened, and only `hub` downloads anything.

    Returns the columns `video` ({"path", "bytes"}), `label` (a class; a list of them where videos have several), `name` (unique),
    and `start`, `end` (seconds) or `fps` where rows are parts of videos or frames. `Coverage.of` reports what was found.

    | layout | source |
    |---|---|
    | folders | `class/x.mp4` or `split/class/x.mp4`; a folder of frame images is a video |
    | table | a CSV with a header or JSON lines, or a folder with one (`metadata.jsonl`, `train.csv`); see `read_annotations` |
    | list | lines "PATH LABEL" or "PATH FRAMES LABEL", or a folder with such a file (`train.txt`) |
    | official | a folder with the annotation files of a data set of the catalog |
    | webdataset, parquet | shards, or a folder of them |
    | saved | a folder of `Dataset.save_to_disk` |
    | hub | the name of a data set on the Hub; or a data set that is already loaded |
    | | "kinofigures/actions", "kinoshapes/actions" or another task of a procedural benchmark; "kinoshapes/actions:640" has 640 training clips per class, "kinoshapes/actions:16:4" has 16 and 4 in other splits, and "kinoshapes/actions:64:8:80" has 8 of validation and 80 of test |

    Args:
        source: see above.
        split: "train", "validation" or "test". None reads all that official annotations label; elsewhere the data must have a
            single split, or none.
        layout: detected by default.
        dataset: name in the catalog, for official annotations and sizes.
        fold: of UCF101 and HMDB51.
        labels: names of the classes in their order, a file of them, or a packaged set. By default the order is the data set's
            own, or alphabetical.
        videos: folder of the videos, if it is not that of the annotations.
        segments: a row for each annotated interval (ActivityNet, Charades), instead of each video.
        streaming: return an `IterableDataset`.

    Raises:
        FileNotFoundError: the file or folder does not exist.
        ImportError: the library `datasets` is not installed.
        MissingSplitError: the data does not have this split, or has none.
        ValueError: nothing is found, or the source is ambiguous; the message says what to do.
    """
    if find_spec("datasets") is None:
        raise ImportError("Data sets are read by the library datasets. `pip install 'kinoclip[train]'`.")
    if split is not None and split_name(split) is None:
        raise ValueError(f"The split must be 'train', 'validation' or 'test', got {split!r}.")
    if layout is not None and layout not in get_args(Layout):
        raise ValueError(f"The layout must be one of {', '.join(get_args(Layout))}, or left out; got {layout!r}.")
    split = split_name(split)
    facts = None if dataset is None else dataset_facts(dataset)
    names = None if labels is None else load_names(labels)
    coverage = Coverage(dataset, split, "hub", None if facts is None else facts.official_size(split, fold))
    drawn = split_source(source)
    if drawn is not None and not Path(str(source)).exists():
        clips = _generate(*drawn, split)
        coverage = replace(coverage, dataset=drawn[0], generator=BENCHMARKS[drawn[0]].generator)
        return from_columns(clips, names, coverage, streaming)
    if not isinstance(source, str | Path):
        return from_columns(source, names, coverage, streaming)
    path = Path(source)
    tree = FileTree(path.parent if path.is_file() else path) if path.exists() else None
    if layout is None:
        layout, facts = _detect_layout(path, tree, facts, split)
    coverage = replace(coverage, layout=layout)
    if layout in ("webdataset", "parquet", "saved", "hub"):
        return from_columns(load_shards(source, layout, streaming), names, coverage, streaming)
    if tree is None:
        raise FileNotFoundError(f"The file or folder {source} does not exist.")
    if facts is not None:
        coverage = replace(coverage, dataset=facts.name, expected=facts.official_size(split, fold))
    files = tree if videos is None else FileTree(videos)
    known = names or (facts.class_names if facts else None)
    if layout == "folders":
        annotations = _read_folders(files, split, known, facts)
    elif layout != "official":
        annotations = _read_table(path, tree, split, known)
    elif facts is None:
        raise ValueError("The layout 'official' needs the name of the data set, such as dataset='ucf101'.")
    else:
        annotations = read_official(AnnotationQuery(facts, tree, split, fold, segments, names))
    classes = names or annotations.classes or class_order(label for e in annotations.entries for label in e.labels)
    loaded = build_dataset(annotations, files, classes, facts.frames_per_second if facts else None, coverage)
    if not len(loaded):
        raise _explain_nothing(files, annotations, facts, split)
    return loaded.to_iterable_dataset() if streaming else loaded


def _generate(name: str, source: str, split: str | None) -> dict[str, datasets.Dataset]:
    """Draw a task of a procedural benchmark, such as "actions", "actions:640", "actions:16:4" or "actions:64:8:80"."""
    benchmark = BENCHMARKS[name]
    task, *counts = source.split(":")
    if task not in benchmark.tasks or len(counts) > 3 or not all(one.isdecimal() and int(one) for one in counts):
        raise ValueError(
            f"{benchmark.title} must be one of {', '.join(f'{name}/{one}' for one in benchmark.tasks)}, optionally with a colon "
            f"and the number of training clips per class, of validation clips, and of test clips; got {f'{name}/{source}'.rstrip('/')!r}."
        )
    if split is None:
        raise MissingSplitError(f"{name}/{source} needs a split: split='train', 'validation' or 'test'.")
    # two counts: the second one is that of the test too
    given = CLIPS_PER_CLASS | dict(zip(SPLITS, map(int, [*counts, *counts[1:]]), strict=False))
    return {split: _draw(name, task, split, given[cast(Split, split)])}


@lru_cache(maxsize=16)
def _draw(name: str, task: str, split: str, count: int) -> datasets.Dataset:
    """Draw a split once in a process; `kinoclip reproduce` reads it for each row."""
    return BENCHMARKS[name].build(task, split, clips_per_class=count)


def _detect_layout(
    path: Path, tree: FileTree | None, facts: DatasetFacts | None, split: str | None
) -> tuple[Layout, DatasetFacts | None]:
    """Detect the layout of a source, and its data set of the catalog from official annotation files."""
    if tree is None:
        if is_hub_id(path):
            return "hub", facts
        raise FileNotFoundError(f"The file or folder {path} does not exist.")
    suffix = path.suffix.lower()
    if path.is_file():
        if facts is not None and any(file == path for file, _ in AnnotationQuery(facts, tree, split).files()):
            return "official", facts
        if suffix not in _LAYOUTS:
            raise ValueError(f"{path} must be a folder, or a list of videos that ends in {', '.join(_LAYOUTS)}.")
        return _LAYOUTS[suffix], facts
    if any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        return "saved", facts
    known = recognize(tree) if facts is None else facts.name
    if known is not None and any(AnnotationQuery(dataset_facts(known), tree, split).files()):
        return "official", dataset_facts(known)
    suffixes = {Path(other).suffix.lower() for other in tree.others}
    for suffix in (".tar", ".parquet"):
        if suffix in suffixes and not tree.videos:
            return _LAYOUTS[suffix], facts
    tables = _find_tables(tree, split) or _find_tables(tree, None)
    has_classes = bool(class_folders(tree.videos, facts.class_names if facts else None))
    if tables and has_classes and Path(tables[0]).stem != "metadata":
        raise ValueError(f"{path} contains {tables[0]} and class folders. Pass layout='table', 'list' or 'folders'.")
    if tables or has_classes:
        return _LAYOUTS[Path(tables[0]).suffix.lower()] if tables else "folders", facts
    advice = "" if facts is None else f" Get {facts.annotations} from {facts.source}."
    raise ValueError(
        f"{path} contains {len(tree.videos)} videos without labels. Move them into folders of their class, or write a CSV with "
        f"the columns video and label.{advice}"
    )


def _find_tables(files: FileTree, split: str | None) -> list[str]:
    """List the tables that may hold labels: metadata.jsonl, else train.csv and the like, else any table at the top.

    With a split, only those of this split, or else those that belong to none.
    """
    suffixes = {path: Path(path).suffix.lower() for path in files.others}
    tables = [path for path, suffix in suffixes.items() if suffix in (*TABLE_SUFFIXES, ".txt")]
    top = [path for path in tables if "/" not in path]
    metadata = [path for path in tables if Path(path).name in ("metadata.csv", "metadata.jsonl")]
    named = [path for path in top if split_name(Path(path).stem)]
    found = metadata or named or [path for path in top if suffixes[path] in (".csv", ".tsv", ".jsonl")]
    if split is None:
        return found
    return [p for p in found if split in _table_splits(p)] or [p for p in found if not any(_table_splits(p))]


def _table_splits(path: str) -> tuple[str | None, str | None]:
    """Return the splits that the name of a table and its folder stand for."""
    return split_name(Path(path).stem), split_name(path.partition("/")[0])


def _read_table(path: Path, tree: FileTree, split: str | None, names: list[str] | None) -> Annotations:
    tables = [path.name] if path.is_file() else _find_tables(tree, split)
    if not tables and split is not None and _find_tables(tree, None):
        raise MissingSplitError(f"{path} contains no table or list of the split {split!r}.")
    if len(tables) != 1:
        found = ", ".join(tables[:4]) or "none"
        raise ValueError(f"{path} must contain exactly one table or list, found: {found}. Pass the file, or a split.")
    table = tables[0]
    read = read_annotations(tree.root / table, names, split)
    if split is not None and not read.splits and split not in _table_splits(table):
        raise MissingSplitError(
            f"{path}: {table} does not mention splits. Leave split= out, or name the file {split} or the column split."
        )
    if split is None and len(read.splits) > 1:
        raise ValueError(f"{path}: {table} has the splits {', '.join(sorted(read.splits))}. Choose one as split=.")
    if names is None and path.is_dir():  # the tables of all splits have one order of classes
        others = [read_annotations(tree.root / other, None, split).classes or [] for other in _find_tables(tree, None)]
        read = replace(read, classes=class_order(label for classes in others for label in classes))
    folder = table.rpartition("/")[0]
    if not folder:
        return read
    return replace(read, entries=tuple(replace(e, names=(f"{folder}/{e.names[0]}", *e.names)) for e in read.entries))


def _read_folders(
    files: FileTree, split: str | None, names: Sequence[str] | None, facts: DatasetFacts | None
) -> Annotations:
    found = class_folders(files.videos, names)
    splits = sorted({one for one, _ in found.values() if one})
    if split is not None and split not in splits:
        advice = f"Get {facts.annotations} from {facts.source}." if facts else "Use kinoclip.data.splits.divide."
        found_splits = ", ".join(splits) or "none"
        raise MissingSplitError(f"{files.root} has no folder of the split {split!r}; found: {found_splits}. {advice}")
    if split is None and len(splits) > 1:
        raise ValueError(f"{files.root} has the splits {', '.join(splits)}. Choose one, such as split={splits[0]!r}.")
    classes = list(names) if names else class_order(label for _, label in found.values())
    entries = [Entry((path,), (label,)) for path, (one, label) in found.items() if split in (None, one)]
    return Annotations(tuple(entries), classes)


def _explain_nothing(
    files: FileTree, annotations: Annotations, facts: DatasetFacts | None, split: str | None
) -> ValueError:
    if not annotations.entries:
        kind = ValueError if split is None else MissingSplitError
        return kind(f"{files.root} contains no labelled video" + (f" of the split {split!r}." if split else "."))
    advice = f" Files of {facts.title} are named {facts.files}." if facts else ""
    return ValueError(
        f"None of the {len(annotations.entries):,} listed videos is in {files.root}; the first is "
        f"{annotations.entries[0].names[0]}. Pass their folder as videos=.{advice}"
    )
