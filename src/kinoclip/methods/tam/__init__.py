"""TAM (NeurIPS 2019)."""

from kinoclip.methods.tam.configuration_tam import TamConfig, TamProcessor
from kinoclip.methods.tam.convert_tam import convert_tam
from kinoclip.methods.tam.modeling_tam import TamModel

__all__ = ["TamConfig", "TamModel", "TamProcessor", "convert_tam"]
