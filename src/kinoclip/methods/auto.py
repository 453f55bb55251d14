"""Load configs, weights and processors by name: a published folder, a hub id, a plain CLIP or the embedded one."""

import logging
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, is_offline_mode, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_ETAG_TIMEOUT
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import AutoConfig, AutoModel, AutoProcessor, CLIPModel, PreTrainedConfig

from kinoclip.methods.bike import BikeConfig, BikeModel, BikeProcessor
from kinoclip.modeling.checkpoints import check_shapes, first_line, naming, read_shapes
from kinoclip.modeling.configuration import check_content, check_token_ids
from kinoclip.modeling.names import EMBEDDED as EMBEDDED
from kinoclip.modeling.names import EMBEDDED_RECOGNIZER, check_model_name
from kinoclip.modeling.processing import RecognizerProcessor, check_tokenizer
from kinoclip.modeling.recognizer import VideoRecognizer, check_candidates
from kinoclip.text.parsing import load_json

logger = logging.getLogger(__name__)

# of a JSON file; a tokenizer of 250,000 words takes 17 MB
_MAX_JSON_BYTES = 40_000_000


def mini_clip_path() -> Path:
    """Return the folder of the embedded CLIP, for `CLIPModel.from_pretrained` and `CLIPTokenizer.from_pretrained`."""
    return Path(str(files("kinoclip.methods") / "embedded_recognizer" / "clip"))


def find_model(name: str) -> str:
    """Return the folder of a model of the package, and other names as they are."""
    folders = {EMBEDDED: mini_clip_path(), EMBEDDED_RECOGNIZER: mini_clip_path().parent}
    return str(folders.get(name, name))


# the method of a plain CLIP without training
PLAIN_CLIP_METHOD = "bike"


def load_plain_clip(
    clip: str, *, attributes: bool = False, dtype: torch.dtype | None = None, **fields: Any
) -> tuple[BikeModel, BikeProcessor]:
    """Build a recognizer that needs no training on a CLIP, a folder or hub id: BIKE without its temporal head.

    `attributes` adds the attributes branch without its MLPs (BIKE Table 6e, "no training"). The `dtype` of the weights
    is the checkpoint's by default; `fields` are further config fields.
    """
    untrained = {"temporal_head": "none"}
    if attributes:
        untrained |= {"attributes": "shared", "attribute_head": "none"}
    model = BikeModel.from_clip(clip, dtype=dtype, **{**untrained, **fields})
    return model, BikeProcessor.from_clip(clip, model.config)


def wrap_plain_clip(clip: CLIPModel, tokenizer: Any) -> tuple[BikeModel, BikeProcessor]:
    """Build the recognizer of `load_plain_clip` on a loaded CLIP, with copies of its weights."""
    config = BikeConfig.from_clip_config(clip.config, temporal_head="none")
    model = BikeModel(config).to(clip.device, clip.dtype).train(clip.training)
    model.load_state_dict(clip.state_dict())
    return model, BikeProcessor.for_config(config, tokenizer)


def read_config(source: str) -> Any:
    """Read the config of a model folder or hub id; raise `FileNotFoundError` or `ValueError` if it cannot be read."""
    check_model_name(source)
    path = Path(source)
    if path.is_dir() and not (path / "config.json").is_file():
        raise ValueError(f"{source} is not a model folder: it lacks config.json. Name the folder that has it.")
    try:
        if not path.exists():
            _announce_download(source)
        _check_json_files(path, "config.json")
        check_content(PreTrainedConfig.get_config_dict(source)[0], "config.json")
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        check_token_ids(config, "config.json")
        return config
    except Exception as error:
        if path.is_dir():
            raise ValueError(f"{source}/config.json could not be read: {first_line(error)}") from error
        raise ValueError(
            f"There is no folder {source}, and the model could not be fetched from the hub under that name: "
            f"{first_line(error)} Check the name and the connection."
        ) from error


def _announce_download(source: str) -> None:
    """Log the size of a model that the cache lacks; raise an error if the hub cannot be reached, since later requests try for half a minute."""
    if is_offline_mode() or isinstance(try_to_load_from_cache(source, "config.json"), str):
        return
    try:
        stored = HfApi().model_info(source, files_metadata=True, timeout=HF_HUB_ETAG_TIMEOUT).siblings or ()
    except HfHubHTTPError:  # a mirror without this service, or a missing model, which loading reports
        return
    weights = next(
        (found for end in (".safetensors", ".bin") if (found := [f for f in stored if f.rfilename.endswith(end)])), []
    )
    megabytes = sum(file.size or 0 for file in weights) / 1e6
    logger.warning("%s is downloaded from the hub into %s, once: %.0f MB.", source, HF_HUB_CACHE, megabytes)


def read_revision(source: str) -> str | None:
    """Return the commit of a model of the Hub, which is in the cache after it was loaded; None for a folder."""
    try:
        found = None if Path(source).exists() else try_to_load_from_cache(source, "config.json")
    except HFValidationError:  # no name of the Hub
        return None
    return Path(found).parent.name if isinstance(found, str) else None


def name_with_revision(source: str) -> str:
    """Return the name of a model, with the beginning of its revision where it came from the Hub."""
    revision = read_revision(source)
    return f"{source}@{revision[:8]}" if revision else source


def load_processor(source: str, *, needs_tokenizer: bool = False) -> RecognizerProcessor:
    """Load the processor of a model folder or hub id; its `tokenizer` is None where the source has none.

    With `needs_tokenizer` it is an error if the processor was saved with a tokenizer and the source lacks it.
    """
    with naming(f"The processor or the tokenizer in {source}"):
        _check_json_files(Path(source))
        processor: RecognizerProcessor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
        processor.check_vocabulary(AutoConfig.from_pretrained(source, trust_remote_code=False))
    saved_whole = (Path(source) / "processor_config.json").is_file()
    if needs_tokenizer and saved_whole and "tokenizer" in processor.get_attributes():
        check_tokenizer(source)
    return processor


def load_weights(source: str, dtype: torch.dtype, **settings: Any) -> VideoRecognizer:
    """Load a model whose weights fit its config one-to-one, which is checked before any memory is taken for them.

    `settings` replace those of the config.
    """
    config = read_config(source)
    if settings:
        config = config.with_settings(**settings)
    with naming(f"{source}/config.json"), torch.device("meta"):
        skeleton: VideoRecognizer = AutoModel.from_config(config, trust_remote_code=False)
        candidates = skeleton.candidates()
        if candidates is not None:
            check_candidates([config.id2label[number] for number in range(len(config.id2label))], candidates)
    expected = {name: tensor.shape for name, tensor in skeleton.state_dict().items()}
    fitted, advice = "its config.json", "Save model and config together."
    if settings:
        fitted, advice = "the given settings", "Leave out settings that change weights."
    check_shapes(expected, read_shapes(source), source, fitted, advice)
    with naming(f"The weights in {source}"):
        recognizer: VideoRecognizer = AutoModel.from_pretrained(
            source, config=config, dtype=dtype, trust_remote_code=False
        )
    return recognizer


def _check_json_files(folder: Path, pattern: str = "*.json") -> None:
    """Check the sizes of JSON files of a model folder, and the numbers in those of its processors."""
    for file in folder.glob(pattern):
        if file.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError(f"{file.name} must have at most {_MAX_JSON_BYTES} bytes, got {file.stat().st_size}.")
        if file.name.endswith("processor_config.json"):
            check_content(load_json(file.read_bytes()), file.name)


def check_finite(recognizer: torch.nn.Module, source: str) -> None:
    """Raise a `ValueError` if a weight is NaN or infinite, or a scale of logits is too large."""
    for name, tensor in recognizer.state_dict().items():
        # a sum finds NaN and infinity in one pass; it may also overflow, so a second check decides
        if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
            raise ValueError(
                f"The weights in {source} are damaged: {name} has values that are NaN or infinite. Download or train them again."
            )
        if name.endswith("logit_scale") and not tensor.float().exp().isfinite().all():
            raise ValueError(f"The weights in {source} are damaged: exp({name}) is infinite, it is {tensor.max():g}.")
