"""The weights in a TorchScript archive (OpenAI's own release format), read without running what else is in it.

`torch.jit.load` runs the `__setstate__` of every module in the archive, and that code may write files.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


def read_torchscript(path: str | Path) -> dict[str, Tensor] | None:
    """Give the parameters and buffers of an archive by their dotted names, or None when the file is no such archive.

    Raises:
        ValueError: it is one, but it is damaged or built of other things than modules and tensors.
    """
    if not is_zipfile(path):
        return None
    state: dict[str, Tensor] = {}
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
            root = next((name.partition("/")[0] for name in names if name.endswith("/constants.pkl")), None)
            if root is None:
                return None
            with archive.open(f"{root}/data.pkl") as file:
                module = _Reader(file, lambda key: archive.read(f"{root}/data/{key}")).load()
        _collect(module, "", state)
    except Exception as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is no sound TorchScript archive ({said}). Download it again.") from error
    return state


class _Module:
    """What stands in the place of a scripted module: what it holds, and none of its code."""

    content: Any = None

    def __setstate__(self, content: Any) -> None:
        self.content = content


class _Reader(pickle.Unpickler):
    """Unpickle modules and tensors, and refuse everything else."""

    def __init__(self, file: Any, read_storage: Callable[[str], bytes]):
        super().__init__(file)
        self._read_storage = read_storage
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # marks on lists and dicts
            return _keep_first
        raise pickle.UnpicklingError(f"it holds {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        if key not in self._storages:
            self._storages[key] = torch.frombuffer(bytearray(self._read_storage(key)), dtype=dtype)
        return self._storages[key]


def _rebuild_tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    view = storage.as_strided(size, stride, offset)
    if view.numel() > storage.numel():  # a stride of zero makes terabytes of a byte
        raise ValueError(f"a tensor of {view.numel()} values in a storage of {storage.numel()}")
    return view.clone()


def _keep_first(value: Any, *_: Any) -> Any:
    return value


def _collect(module: Any, prefix: str, state: dict[str, Tensor]) -> None:
    """Write the tensors of a module and of those inside it into `state`."""
    content = module.content if isinstance(module, _Module) else None
    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, Tensor):
            state[f"{prefix}{name}"] = value
        elif isinstance(value, _Module):
            _collect(value, f"{prefix}{name}.", state)
