"""BIKE (CVPR 2023)."""

from .configuration_bike import BikeConfig
from .convert_bike import convert_bike
from .modeling_bike import BikeModel
from .processing_bike import BikeProcessor

__all__ = ["BikeConfig", "BikeModel", "BikeProcessor", "convert_bike"]
