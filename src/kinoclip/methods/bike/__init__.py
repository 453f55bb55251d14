"""BIKE (CVPR 2023)."""

from kinoclip.methods.bike.configuration_bike import BikeConfig, BikeProcessor
from kinoclip.methods.bike.convert_bike import convert_bike
from kinoclip.methods.bike.modeling_bike import BikeModel

__all__ = ["BikeConfig", "BikeModel", "BikeProcessor", "convert_bike"]
