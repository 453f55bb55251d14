"""DSTPR (Electronics 2024)."""

from .configuration_dstpr import DstprConfig
from .modeling_dstpr import DstprModel
from .processing_dstpr import DstprProcessor

__all__ = ["DstprConfig", "DstprModel", "DstprProcessor"]
