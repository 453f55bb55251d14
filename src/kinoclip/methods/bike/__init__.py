"""BIKE (CVPR 2023)."""

from .configuration_bike import BikeConfig
from .modeling_bike import BikeModel

__all__ = ["BikeConfig", "BikeModel"]
