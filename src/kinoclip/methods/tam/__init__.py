"""TAM (NeurIPS 2019)."""

from .configuration_tam import TamConfig
from .convert_tam import convert_tam
from .modeling_tam import TamModel
from .processing_tam import TamProcessor

__all__ = ["TamConfig", "TamModel", "TamProcessor", "convert_tam"]
