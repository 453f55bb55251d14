"""SLLM (ACM Multimedia 2023)."""

from .configuration_sllm import SllmConfig
from .convert_sllm import convert_sllm
from .modeling_sllm import SllmModel
from .processing_sllm import SllmProcessor

__all__ = ["SllmConfig", "SllmModel", "SllmProcessor", "convert_sllm"]
