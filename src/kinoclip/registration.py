"""Registration with the Auto classes and pipelines of Transformers, which are imported neither before nor by it."""

from collections.abc import Collection
from importlib import import_module
from types import ModuleType
from typing import Any

from kinoclip.lazy import when_imported

# modules of `transformers.models.auto`, and their tables, in which `kinoclip.methods` is found without a class of it
_TABLES = {
    "configuration_auto": "CONFIG_MAPPING",
    "processing_auto": "PROCESSOR_MAPPING",
    "video_processing_auto": "VIDEO_PROCESSOR_MAPPING",
}


class _Pending(dict[Any, Any]):
    """Registered classes; `kinoclip.methods` is imported, and registers its own, when a value is looked up."""

    def __getitem__(self, key: Any) -> Any:
        import_module("kinoclip.methods")
        return super().__getitem__(key)

    def values(self) -> Any:
        import_module("kinoclip.methods")
        return super().values()

    def items(self) -> Any:
        import_module("kinoclip.methods")
        return super().items()


def register(model_types: Collection[str]) -> None:
    """Register the methods of these model types and the zero-shot pipeline; a second call changes nothing."""

    def add_methods(module: ModuleType) -> None:
        table = getattr(module, _TABLES[module.__name__.rpartition(".")[2]])
        known = dict.fromkeys(model_types) if table is getattr(module, "CONFIG_MAPPING", None) else {}
        table._extra_content = _Pending(known | table._extra_content)

    def import_pipelines(_: ModuleType) -> None:
        import_module("kinoclip.inference.pipelines")  # it registers its own

    for name in _TABLES:
        when_imported(f"transformers.models.auto.{name}", add_methods)
    when_imported("transformers.pipelines", import_pipelines)
