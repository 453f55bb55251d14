"""Rows with the columns of this package, from annotations or from data sets that `datasets` loads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinoclip.data.annotations import LABEL_COLUMNS, VIDEO_COLUMNS, Annotations, class_order
from kinoclip.data.coverage import Coverage, segment_name
from kinoclip.data.files import VIDEO_SUFFIXES, FileTree, MissingSplitError, is_video_file, split_name
from kinoclip.text.labels import match_key

if TYPE_CHECKING:
    import datasets

_KEPT = ("video", "label", "name", "start", "end", "fps")
# shards of WebDataset name a column by the extension of its files
_VIDEO_NAMES = (*VIDEO_COLUMNS, *sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))
_LABEL_NAMES = (*LABEL_COLUMNS, "cls", "json", "txt")
_NAMES = ("name", "__key__")


def build_dataset(
    annotations: Annotations, tree: FileTree, classes: Sequence[str], fps: float | None, coverage: Coverage
) -> datasets.Dataset:
    """Find the files of all entries and build a row of each; the coverage is completed and stored with the data set.

    A `ValueError` is raised if a label is not among the classes, or if one video has two.
    """
    from datasets import ClassLabel, Dataset, Features, List, Value, Video

    to_id = _class_ids(classes)
    rows: dict[str, dict[str, Any]] = {}
    missing: dict[str, None] = {}
    num_repeated = 0
    for entry in annotations.entries:
        path = tree.find(entry.names)
        if path is None:
            missing[entry.names[0]] = None
            continue
        ids = [to_id(label, path) for label in entry.labels]
        is_part = entry.start is not None or entry.end is not None
        row: dict[str, Any] = {
            "video": {"path": path if "://" in path else str(tree.root / path), "bytes": None},
            "label": sorted(ids) if annotations.multi_label else ids[0],
            "name": segment_name(path, entry.start, entry.end, entry.labels[0]) if is_part else path,
            "start": entry.start,
            "end": entry.end,
            "fps": None if is_video_file(path) else fps,
        }
        first = rows.setdefault(row["name"], row)
        num_repeated += first is not row
        if first["label"] != row["label"]:
            one, other = classes[first["label"]], classes[row["label"]]
            raise ValueError(f"{row['name']} is listed as {one!r} and as {other!r}. Keep one of them.")
    label = ClassLabel(names=list(classes))
    features = {"video": Video(decode=False), "label": List(label) if annotations.multi_label else label}
    features["name"] = Value("string")
    if any(row["start"] is not None or row["end"] is not None for row in rows.values()):
        features |= {"start": Value("float64"), "end": Value("float64")}
    if any(row["fps"] is not None for row in rows.values()):
        features["fps"] = Value("float64")
    columns = {name: [row[name] for row in rows.values()] for name in features}
    listed = len({entry.names[0] for entry in annotations.entries})
    coverage = replace(coverage, listed=listed, num_repeated=num_repeated, dropped=annotations.dropped)
    return coverage.with_missing(list(missing)).attach(Dataset.from_dict(columns, Features(features)))


def load_shards(source: str | Path, layout: str, streaming: bool) -> Any:
    """Load a saved data set, WebDataset or Parquet shards, or a data set of the Hub."""
    from datasets import load_dataset, load_from_disk

    if layout == "saved":
        return load_from_disk(str(source))
    if layout == "hub":
        try:
            return load_dataset(str(source), streaming=streaming)
        except (FileNotFoundError, ConnectionError) as error:
            reason = " ".join(str(error).split())
            raise FileNotFoundError(f"{source} is neither a path nor a data set of the Hub ({reason}).") from error
    files = {"data_dir" if Path(source).is_dir() else "data_files": str(source)}
    return load_dataset(layout, **files, streaming=streaming)


def from_columns(data: Any, names: Sequence[str] | None, coverage: Coverage, streaming: bool = False) -> Any:
    """Rename and convert the columns of a `Dataset` or `IterableDataset`, or of the right split of a mapping of them.

    There must be a video column (of videos, paths or bytes) and a label column. `names` of the classes in their order are needed
    where labels are bare numbers, and for streamed texts. The coverage is completed and stored with the data set.
    """
    from datasets import Dataset

    split = coverage.split
    if split is not None and not isinstance(data, Mapping) and split_name(str(data.split)) != split:
        raise MissingSplitError(f"The data set does not state that it is the split {split!r}. Leave split= out.")
    by_name = data if isinstance(data, Mapping) else {split or "all": data}
    parts = {str(name): _rename_columns(one) for name, one in by_name.items()}
    fitting = [name for name in parts if data is not by_name or split is None or split_name(name) == split]
    if not fitting:
        raise MissingSplitError(f"The data set has the splits {', '.join(data)}, not {split!r}.")
    if len(fitting) > 1:
        raise ValueError(f"The data has the splits {', '.join(fitting)}. Choose one, such as split={fitting[0]!r}.")
    chosen = parts[fitting[0]]
    convert, feature = _label_reader(chosen, names, list(parts.values()))
    if not isinstance(chosen, Dataset):
        return _stream(chosen, convert, feature)
    chosen = _replace(chosen, "label", [convert(label) for label in chosen["label"][:]], feature)
    chosen = _replace(chosen, "name", _row_names(chosen), None)
    chosen = chosen.select_columns([name for name in _KEPT if name in chosen.column_names])
    replace(coverage, found=len(chosen)).attach(chosen)
    return chosen.to_iterable_dataset() if streaming else chosen


def _class_ids(names: Sequence[str]) -> Callable[[str, str], int]:
    """Return a function from a label, in any spelling, and its video, for errors, to the class id."""
    ids = {match_key(name): number for number, name in enumerate(names)}

    def to_id(label: str, video: str) -> int:
        if match_key(label) not in ids:
            raise ValueError(
                f"The label {label!r} of {video} is not among the {len(names)} classes ({', '.join(map(repr, names[:3]))}, ...). "
                "Pass the names of all classes as labels=."
            )
        return ids[match_key(label)]

    return to_id


def _rename_columns(data: Any) -> Any:
    """Name the video column `video`, not decoded, and the label column `label`."""
    from datasets import Value, Video

    features = data.features
    if features is None:
        raise ValueError("The streamed data set does not declare its columns. Load it without streaming.")
    videos = [name for name, feature in features.items() if isinstance(feature, Video)]
    if len(videos) > 1 and "video" not in videos:
        raise ValueError(f"The columns {', '.join(videos)} all contain videos. Rename the right one to `video`.")
    candidates = ["video"] if "video" in videos else [*videos, *(name for name in _VIDEO_NAMES if name in features)]
    labels = [name for name in _LABEL_NAMES if name in features]
    for names, target in ((candidates, "video"), (labels, "label")):
        if not names:
            raise ValueError(f"The column `{target}` is missing; there are {', '.join(features)}. Rename yours.")
    if getattr(features[candidates[0]], "dtype", None) == "large_string":
        data = data.cast_column(candidates[0], Value("string"))  # Video does not support large strings
    data = data.cast_column(candidates[0], Video(decode=False))
    for name, target in ((candidates[0], "video"), (labels[0], "label")):
        data = data if name == target else data.rename_column(name, target)
    return data


def _stream(data: datasets.IterableDataset, convert: Callable[[Any], Any], feature: Any) -> datasets.IterableDataset:
    from datasets import Features, Value, Video

    own = next((name for name in _NAMES if name in data.features), None)

    def change(row: Mapping[str, Any], index: int) -> dict[str, Any]:
        name = row[own] if own else row["video"]["path"] or f"{index:08d}"
        return {"label": convert(row["label"]), "name": name}

    kept = {name: data.features[name] for name in ("start", "end", "fps") if name in data.features}
    features = Features({"video": Video(decode=False), "label": feature, "name": Value("string"), **kept})
    dropped = [name for name in data.features if name not in features]
    return data.map(change, with_indices=True, remove_columns=dropped, features=features)


def _label_reader(data: Any, names: Sequence[str] | None, parts: Sequence[Any]) -> tuple[Callable[[Any], Any], Any]:
    """Return a function from labels to class ids, in one order for all parts, and the feature of the result."""
    from datasets import ClassLabel, Dataset, List

    feature = data.features["label"]
    inner = feature.feature if isinstance(feature, List) else feature
    given = getattr(inner, "names", None)
    if given is None and names is None:
        if getattr(inner, "dtype", "").startswith("int"):
            raise ValueError("The labels are bare numbers. Pass the names of the classes in their order as labels=.")
        if not isinstance(data, Dataset):
            raise ValueError("A streamed data set does not declare its labels. Pass their names as labels=.")
        names = class_order([text for part in parts for label in part["label"][:] for text in _labels_of(label)])
    classes = list(names or given or ())
    to_id, count = _class_ids(classes), len(given or classes)

    def convert_one(label: Any) -> int:
        if not isinstance(label, int):
            return to_id(label, "a video")
        if not 0 <= label < count:
            raise ValueError(f"Labels must be 0 to {count - 1}, as there are {count} classes, got {label}.")
        return to_id(given[label], "a video") if given else label

    def convert(label: Any) -> Any:
        ids = [convert_one(one) for one in _labels_of(label)]
        return sorted(ids) if isinstance(feature, List) else ids[0]

    label = ClassLabel(names=classes)
    return convert, List(label) if isinstance(feature, List) else label


def _labels_of(cell: Any) -> list[Any]:
    """Return the labels in a cell: a list, an object with a `label`, the bytes of a text file, or one label."""
    if isinstance(cell, Mapping):
        cell = next((cell[name] for name in LABEL_COLUMNS if name in cell), None)
    if isinstance(cell, bytes):
        cell = cell.decode()
    if isinstance(cell, str):
        cell = cell.strip()
    if cell in (None, ""):
        raise ValueError("A label is empty. Fill it in, or remove the video.")
    return cell if isinstance(cell, list) else [cell]


def _row_names(data: datasets.Dataset) -> list[str]:
    """Return unique names of rows: their names or keys, their paths below the common folder, or their numbers."""
    for column in _NAMES:
        if column in data.column_names and len(set(data[column])) == len(data):
            return list(data[column][:])
    paths = data.select_columns(["video"]).flatten()["video.path"]
    if len(data) > 1 and all(paths) and len(set(paths)) == len(data):
        top = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
        return [os.path.relpath(path, top) if top else path for path in paths]
    return [f"{index:08d}" for index in range(len(data))]


def _replace(data: datasets.Dataset, name: str, values: list[Any], feature: Any) -> datasets.Dataset:
    if name in data.column_names:
        data = data.remove_columns(name)
    return data.add_column(name, values, feature=feature)
