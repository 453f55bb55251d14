"""Conversion of official checkpoints to folders in the layout of Transformers."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kinoclip.data.files import is_hub_id
from kinoclip.methods import METHODS
from kinoclip.methods.auto import PLAIN_CLIP_METHOD, find_model, load_plain_clip
from kinoclip.modeling.configuration import check_settings
from kinoclip.modeling.processing import RecognizerProcessor, load_tokenizer
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.storage import atomic_folder, check_owned, nothing

# Settings of the processor, not of the config.
_SAMPLING = ("sampling", "num_clips", "num_crops")


def convert(
    method: str,
    checkpoint: str | Path,
    output: str | Path,
    *,
    clip: str | None = None,
    attributes: str | Path | None = None,
    labels: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """Convert a checkpoint of the authors and yield a line about each step.

    Args:
        method: such as "bike".
        checkpoint: the authors' file; or a plain CLIP folder, hub id or "mini", for zero-shot recognition.
        output: the folder, written atomically.
        clip: a CLIP folder or hub id with the tokenizer, and with the text tower if the checkpoint has none; a file in
            OpenAI's layout has only the latter. A plain CLIP has both.
        attributes: BIKE's second checkpoint.
        labels: names that become the candidates of the model; needs a tokenizer if the method reads text.
        settings: config fields, and sampling options of the processor.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: unknown method or setting, a checkpoint of another method, or an output folder with other files.
    """
    read_official = METHODS[method].convert if method in METHODS else None
    if read_official is None:
        known = ", ".join(name for name, each in METHODS.items() if each.convert is not None)
        raise ValueError(f"method must be one of {known}, got {method!r}.")
    output = Path(output)
    check_owned(output, nothing)
    settings = dict(settings or {})
    check_settings(METHODS[method].config, settings, also=_SAMPLING)
    sampling = {name: settings.pop(name) for name in _SAMPLING if name in settings}
    clip = None if clip is None else find_model(str(clip))
    # A file in OpenAI's layout has weights, but not a tokenizer.
    needs_clip = "clip" in inspect.signature(read_official).parameters
    tokenizer_source = None if clip is not None and needs_clip and Path(clip).is_file() else clip
    plain = _as_plain_clip(checkpoint)
    if plain is not None:
        if method != PLAIN_CLIP_METHOD:
            raise ValueError(
                f"{checkpoint} is a plain CLIP, and {method} needs training. Convert it as {PLAIN_CLIP_METHOD}, which "
                "recognizes zero-shot."
            )
        if attributes is not None:
            raise ValueError(
                f"{checkpoint} is a plain CLIP without a trained attributes branch. Leave --attributes out."
            )
        model: VideoRecognizer = load_plain_clip(plain, **settings)[0]
        tokenizer_source = tokenizer_source or plain
    else:
        options: dict[str, Any] = {} if attributes is None else {"attributes": attributes}
        options |= {"clip": clip} if needs_clip else {}
        unknown = sorted(options.keys() - inspect.signature(read_official).parameters.keys())
        if unknown:
            raise ValueError(f"{method} does not take {unknown[0]}. Leave it out.")
        model = read_official(checkpoint, **options, **settings)
    yield f"read {checkpoint}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters"
    if not getattr(model.config, "text_tower", True):
        yield "the model has no text tower and cannot read labels; pass the CLIP it was trained from with --clip CLIP"
    tokenizer = None
    if tokenizer_source is not None:
        if not model.config.reads_text:
            raise ValueError(f"{method} does not read text. Leave --clip out.")
        tokenizer = load_tokenizer(tokenizer_source, model.config.text_config.vocab_size)
    processor = METHODS[method].processor.for_config(model.config, tokenizer, **sampling)
    if labels is not None:
        yield _store_labels(model, processor, labels)
    with atomic_folder(output) as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    yield f"wrote {output}: {', '.join(sorted(path.name for path in output.iterdir()))}"
    if tokenizer is None and model.config.reads_text:
        yield "the folder has no tokenizer and cannot read labels; pass one with --clip CLIP"


def _as_plain_clip(checkpoint: str | Path) -> str | None:
    """Return the CLIP folder or hub id that a checkpoint names, or None if it names a file."""
    name = find_model(str(checkpoint))
    if Path(name).is_dir():
        return name
    is_file = Path(name).suffix in (".pt", ".pth", ".safetensors") or Path(name).parent.exists()
    return name if is_hub_id(name) and not is_file else None


@torch.inference_mode()
def _store_labels(model: VideoRecognizer, processor: RecognizerProcessor, labels: Sequence[str]) -> str:
    rows = None if model.config.reads_text else model.candidates()
    if rows is not None:
        model.set_candidates(labels, rows)
        return f"named {len(labels)} classes"
    if not processor.reads_text:
        raise ValueError("Labels need a tokenizer. Pass one with --clip CLIP.")
    model.set_candidates(labels, model.eval().encode_text(**processor(text=labels)))
    return f"stored {len(labels)} labels"
