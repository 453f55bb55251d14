"""Data sets that `datasets` loads, brought to this package's columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .annotations import LABEL_COLUMNS, VIDEO_COLUMNS, class_order
from .building import ClassOrder, note_coverage
from .coverage import Coverage
from .layouts import VIDEO_SUFFIXES, MissingSplitError, split_name

if TYPE_CHECKING:
    import datasets

_KEPT = ("video", "label", "name", "start", "end", "fps")
# shards of WebDataset call a column by the ending of its files
_VIDEO_NAMES = (*VIDEO_COLUMNS, *sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))
_LABEL_NAMES = (*LABEL_COLUMNS, "cls", "json", "txt")
_NAMES = ("name", "__key__")


def load_shards(source: str | Path, layout: str, streaming: bool) -> Any:
    """Open what `datasets` has a loader for: a saved data set, WebDataset or Parquet shards, the Hub.

    Raises:
        FileNotFoundError: the Hub has no such data set, or cannot be reached.
    """
    from datasets import load_dataset, load_from_disk

    if layout == "saved":
        return load_from_disk(str(source))
    if layout == "hub":
        try:
            return load_dataset(str(source), streaming=streaming)
        except (FileNotFoundError, ConnectionError) as error:
            why = " ".join(str(error).split())
            raise FileNotFoundError(
                f"There is no file or folder {source}, and the Hub gave no data set of that name ({why})."
            ) from error
    where = {"data_dir" if Path(source).is_dir() else "data_files": str(source)}
    return load_dataset(layout, **where, streaming=streaming)


def from_columns(data: Any, names: Sequence[str] | None, coverage: Coverage, streaming: bool = False) -> Any:
    """Rename and convert the columns of a `Dataset` or `IterableDataset`, or of the right split of several.

    Args:
        data: a video column (of videos, paths or bytes) and a label column are needed.
        names: of the classes in their order; needed where labels are bare numbers, and for streamed texts.
        coverage: completed and kept with the data set.
        streaming: give an `IterableDataset`.

    Raises:
        MissingSplitError: it has not this split.
        ValueError: a column is missing, or labels cannot be named.
    """
    from datasets import Dataset

    if coverage.split is not None and not isinstance(data, Mapping) and split_name(str(data.split)) != coverage.split:
        raise MissingSplitError(
            f"The data set does not say that it is the split {coverage.split!r}. Leave split= out."
        )
    every = [_name_columns(one) for one in (data.values() if isinstance(data, Mapping) else [data])]
    data = _pick(dict(zip(data, every, strict=True)), coverage.split) if isinstance(data, Mapping) else every[0]
    convert, feature = _label_reader(data, names, every)
    if not isinstance(data, Dataset):
        return _stream(data, convert, feature)
    data = _replace(data, "label", [convert(label) for label in data["label"][:]], feature)
    data = _replace(data, "name", _row_names(data), None)
    data = data.select_columns([name for name in _KEPT if name in data.column_names])
    note_coverage(data, replace(coverage, found=len(data)))
    return data.to_iterable_dataset() if streaming else data


def _name_columns(data: Any) -> Any:
    """Call the video column `video`, not decoded, and the label column `label`."""
    from datasets import Value, Video

    if data.features is None:
        raise ValueError("The streamed data set does not say which columns it has. Load it without streaming.")
    video = _video_column(data.features)
    if video is not None:
        if getattr(data.features[video], "dtype", None) == "large_string":
            data = data.cast_column(video, Value("string"))  # Video takes no large strings
        data = data.cast_column(video, Video(decode=False))
    data = _rename(data, video, "video")
    return _rename(data, next((name for name in _LABEL_NAMES if name in data.features), None), "label")


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


def _pick(data: Any, split: str | None) -> Any:
    """Take the wanted split of several.

    Raises:
        MissingSplitError: there is none of that name.
    """
    fitting = [name for name in data if split is None or split_name(name) == split]
    if not fitting:
        raise MissingSplitError(f"The data set has no split {split!r}, but {', '.join(data)}.")
    if len(fitting) > 1:
        raise ValueError(f"The data set has the splits {', '.join(fitting)}. Say which: split={fitting[0]!r}.")
    return data[fitting[0]]


def _video_column(features: Mapping[str, Any]) -> str | None:
    from datasets import Video

    videos = [name for name, feature in features.items() if isinstance(feature, Video)]
    if len(videos) > 1 and "video" not in videos:
        raise ValueError(f"The columns {', '.join(videos)} all hold videos. Rename the one that counts to `video`.")
    named = [name for name in _VIDEO_NAMES if name in features]
    return "video" if "video" in videos else next(iter([*videos, *named]), None)


def _rename(data: Any, name: str | None, to: str) -> Any:
    if name is None:
        raise ValueError(f"No column holds the {to}; there are {', '.join(data.features)}. Rename yours to `{to}`.")
    return data if name == to else data.rename_column(name, to)


def _label_reader(data: Any, names: Sequence[str] | None, every: Sequence[Any]) -> tuple[Callable[[Any], Any], Any]:
    """Give a function that turns labels into class numbers, and the feature of the result; `every` split has one order."""
    from datasets import ClassLabel, Dataset, List

    feature = data.features["label"]
    inner = feature.feature if isinstance(feature, List) else feature
    given = getattr(inner, "names", None)
    if given is None and names is None:
        if getattr(inner, "dtype", "").startswith("int"):
            raise ValueError("The labels are bare numbers. Give the names of the classes in their order as labels=.")
        if not isinstance(data, Dataset):
            raise ValueError("A streamed data set does not say which labels it has. Give their names as labels=.")
        names = class_order([text for one in every for label in one["label"][:] for text in _texts(label)])
    order = ClassOrder(names or given or ())

    def convert_one(label: Any) -> int:
        if isinstance(label, int):
            if not 0 <= label < len(given or order.names):
                raise ValueError(f"A label is {label}, but there are {len(given or order.names)} classes, from 0.")
            return order.number(given[label], "a video") if given else label
        return order.number(label, "a video")

    def convert(label: Any) -> Any:
        numbers = [convert_one(one) for one in _texts(label)]
        return sorted(numbers) if isinstance(feature, List) else numbers[0]

    classes = ClassLabel(names=list(order.names))
    return convert, List(classes) if isinstance(feature, List) else classes


def _texts(label: Any) -> list[Any]:
    """Give the labels in a cell: of a list, of an object with a `label`, of the bytes of a text file, or the one."""
    if isinstance(label, Mapping):
        label = next((label[name] for name in LABEL_COLUMNS if name in label), None)
    if isinstance(label, bytes):
        label = label.decode()
    if isinstance(label, str):
        label = label.strip()
    if label in (None, ""):
        raise ValueError("A label is empty. Fill it in, or leave the video out.")
    return label if isinstance(label, list) else [label]


def _row_names(data: datasets.Dataset) -> list[str]:
    """Give each row a name of its own: its name or key, its path below the folder of all, or its number."""
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
