"""SLLM (ACM Multimedia 2023)."""

from kinoclip.methods.sllm.configuration_sllm import SllmConfig, SllmProcessor
from kinoclip.methods.sllm.convert_sllm import convert_sllm
from kinoclip.methods.sllm.modeling_sllm import SllmModel

__all__ = ["SllmConfig", "SllmModel", "SllmProcessor", "convert_sllm"]
