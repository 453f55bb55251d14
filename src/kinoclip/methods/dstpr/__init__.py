"""DSTPR (Electronics 2024)."""

from kinoclip.methods.dstpr.configuration_dstpr import DstprConfig, DstprProcessor
from kinoclip.methods.dstpr.modeling_dstpr import DstprModel

__all__ = ["DstprConfig", "DstprModel", "DstprProcessor"]
