"""One door for videos with labels: folders, tables, lists, official annotations, shards, the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from kinoclip.text.labels import load_names

from .annotations import Annotations, Entry, class_order, read_annotations
from .building import build_dataset
from .catalog import DatasetFacts, dataset_facts
from .columns import from_columns, load_shards
from .coverage import Coverage
from .detecting import Layout, detect_layout, find_tables, folder_of, is_table_of
from .kinoshapes.benchmark import TASKS, benchmark_dataset
from .layouts import FileTree, MissingSplitError, class_folders, split_name
from .official import Wanted, read_official

if TYPE_CHECKING:
    import datasets

_KINOSHAPES = "kinoshapes/"


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
    | | "kinoshapes/actions", or another task of the benchmark that this package draws itself; "kinoshapes/actions:640" draws 640 training clips of each class |

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
        ImportError: the library `datasets` is not installed.
        MissingSplitError: the data has splits, and not this one, or it has none.
        ValueError: nothing is found, or more than one thing could be meant; the message says what to do.
    """
    if find_spec("datasets") is None:
        raise ImportError("Data sets are read by the library datasets. `pip install 'kinoclip[train]'`.")
    if split is not None and split_name(split) is None:
        raise ValueError(f"There is no split {split!r}. Use 'train', 'validation' or 'test'.")
    split = split_name(split)
    facts = None if dataset is None else dataset_facts(dataset)
    names = None if labels is None else load_names(labels)
    coverage = Coverage(dataset, split, "hub", None if facts is None else facts.official_size(split, fold))
    if str(source).startswith(_KINOSHAPES) and not Path(str(source)).exists():
        coverage = replace(coverage, dataset="kinoshapes")
        return from_columns(_draw_kinoshapes(str(source), split), names, coverage, streaming)
    if not isinstance(source, str | Path):
        return from_columns(source, names, coverage, streaming)
    if layout is None:
        layout, facts = detect_layout(source, facts, split)
    elif layout not in get_args(Layout):
        raise ValueError(f"There is no layout {layout!r}. Use one of {', '.join(get_args(Layout))}, or leave it out.")
    coverage = replace(coverage, layout=layout)
    if layout in ("webdataset", "parquet", "saved", "hub"):
        return from_columns(load_shards(source, layout, streaming), names, coverage, streaming)
    if facts is not None:
        coverage = replace(coverage, dataset=facts.name, expected=facts.official_size(split, fold))
    here = FileTree(folder_of(source))
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
        raise _explain_nothing(files, annotations, facts, split)
    return loaded.to_iterable_dataset() if streaming else loaded


def _draw_kinoshapes(source: str, split: str | None) -> dict[str, datasets.Dataset]:
    """Draw a split of a task of KinoShapes."""
    task, _, count = source.removeprefix(_KINOSHAPES).partition(":")
    if task not in TASKS or (count and not (count.isdecimal() and int(count))):
        raise ValueError(
            f"KinoShapes has no task {source.removeprefix(_KINOSHAPES)!r}. Use one of "
            f"{', '.join(_KINOSHAPES + one for one in TASKS)}, with a number of training clips of each class behind a colon or "
            "without."
        )
    if split is None:
        raise MissingSplitError(f"{source} is drawn split by split. Say which: split='train', 'validation' or 'test'.")
    clips = int(count) if count and split == "train" else None
    return {split: benchmark_dataset(task, split, clips_per_class=clips)}  # type: ignore[arg-type]  # checked above


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
    tables = [path.name] if path.is_file() else find_tables(here, split)
    if not tables and split is not None and find_tables(here, None):
        raise MissingSplitError(f"{path} has no table or list of the split {split!r}.")
    if len(tables) != 1:
        found = ", ".join(tables[:4]) or "none"
        raise ValueError(f"{path}: one table or list is needed, and there are: {found}. Name the file, or the split.")
    read = read_annotations(here.root / tables[0], names, split)
    if split is not None and not read.splits and not is_table_of(tables[0], split):
        raise MissingSplitError(
            f"{path}: {tables[0]} says nothing of splits. Leave split= out, or name the file {split} or the column split."
        )
    if split is None and len(read.splits) > 1:
        raise ValueError(f"{path}: {tables[0]} has the splits {', '.join(sorted(read.splits))}. Say which: split=.")
    if names is None and path.is_dir():  # the tables of all splits have one order of classes
        every = [read_annotations(here.root / table, None, split).classes or [] for table in find_tables(here, None)]
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
        way = f"get {facts.annotations} from {facts.source}" if facts else "divide it with kinoclip.data.splits.divide"
        raise MissingSplitError(
            f"{files.root} has no folder of the split {split!r}, but {', '.join(splits) or 'none'}. Leave split= out, or {way}."
        )
    if split is None and len(splits) > 1:
        raise ValueError(f"{files.root} holds the splits {', '.join(splits)}. Say which: split={splits[0]!r}.")
    classes = list(names) if names else class_order([label for _, label in found.values()])
    entries = [Entry((path,), (label,)) for path, (one, label) in found.items() if split in (None, one)]
    return Annotations(tuple(entries), classes)


def _explain_nothing(
    files: FileTree, annotations: Annotations, facts: DatasetFacts | None, split: str | None
) -> ValueError:
    if not annotations.entries and split is not None:
        return MissingSplitError(f"{files.root}: there is no labelled video of that split, {split!r}.")
    if not annotations.entries:
        return ValueError(f"{files.root}: there is no labelled video.")
    named = f" Files of {facts.title} are named {facts.files}." if facts else ""
    return ValueError(
        f"None of the {len(annotations.entries):,} listed videos lies in {files.root}; the first is "
        f"{annotations.entries[0].names[0]}. Say with videos= where they are.{named}"
    )
