"""Every config, model and processor of this package under Transformers' Auto classes and pipelines."""

from __future__ import annotations

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    CLIPTokenizer,
)
from transformers.pipelines import PIPELINE_REGISTRY

from kinoclip.inference.pipelines import ZeroShotVideoClassificationPipeline
from kinoclip.methods import METHODS
from kinoclip.video_processing import RecognizerVideoProcessor


def register() -> None:
    """Register all methods; a second call changes nothing."""
    for config, model, processor, *_ in METHODS.values():
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModel.register(config, model, exist_ok=True)
        AutoModelForVideoClassification.register(config, model, exist_ok=True)
        AutoProcessor.register(config, processor, exist_ok=True)
        AutoTokenizer.register(config, CLIPTokenizer, exist_ok=True)
        AutoVideoProcessor.register(config, RecognizerVideoProcessor, exist_ok=True)
    task = "zero-shot-video-classification"
    if task not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            task, pipeline_class=ZeroShotVideoClassificationPipeline, pt_model=AutoModel, type="multimodal"
        )
