"""An official checkpoint to a folder to publish."""

from __future__ import annotations

import inspect
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kinoclip.embedded import EMBEDDED, mini_clip_path
from kinoclip.methods import METHODS, PLAIN_CLIP_METHOD, load_plain_clip
from kinoclip.processing import RecognizerProcessor, load_tokenizer
from kinoclip.recognizer import VideoRecognizer
from kinoclip.recognizer_config import check_settings
from kinoclip.video_processing import RecognizerVideoProcessor

# settings that travel in the processor, not in the model's config
_SAMPLING = ("sampling", "num_clips", "num_crops")
# what a folder may hold and still be written again
_OWN_FILES = {
    "config.json",
    "kinoclip_shim.py",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
}


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
    """Write a published folder from the authors' file, and say line by line what was done.

    Args:
        method: such as "bike".
        checkpoint: the authors' file; or a plain CLIP folder, hub id or "mini", which recognizes without training.
        output: the folder; it appears whole or not at all.
        clip: a CLIP folder or hub id that supplies the tokenizer, and the text tower where the authors' file has none;
            for the latter a file in OpenAI's layout does too. A plain CLIP has its own.
        attributes: BIKE's second checkpoint.
        labels: names that the checkpoint shall carry as its own classes; needs a tokenizer where the method reads
            text.
        settings: config fields, and sampling options of the processor.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown method or setting, a file that does not fit, or an output folder with other things in it.
    """
    read_official = METHODS[method].convert if method in METHODS else None
    if read_official is None:
        known = ", ".join(name for name, each in METHODS.items() if each.convert is not None)
        raise ValueError(f"There is no method {method!r} to convert. Known: {known}.")
    output = Path(output)
    _check_output(output)
    settings = dict(settings or {})
    check_settings(METHODS[method].config, settings, also=_SAMPLING)
    sampling = {name: settings.pop(name) for name in _SAMPLING if name in settings}
    if clip == EMBEDDED:
        clip = str(mini_clip_path())
    # a file in OpenAI's layout has weights, but no tokenizer
    needs_clip = "clip" in inspect.signature(read_official).parameters
    tokenizer_source = None if clip is not None and needs_clip and Path(clip).is_file() else clip
    plain = _as_plain_clip(checkpoint)
    if plain is not None:
        if method != PLAIN_CLIP_METHOD:
            raise ValueError(
                f"{checkpoint} is a plain CLIP, on which {method} would have to be trained first. "
                f"Convert it as {PLAIN_CLIP_METHOD}, which recognizes without training."
            )
        if attributes is not None:
            raise ValueError(f"{checkpoint} is a plain CLIP, which has no trained attributes branch. Leave it out.")
        model: VideoRecognizer = load_plain_clip(plain, **settings)[0]
        tokenizer_source = tokenizer_source or plain
    else:
        options: dict[str, Any] = {} if attributes is None else {"attributes": attributes}
        options |= {"clip": clip} if needs_clip else {}
        _check_options(method, read_official, options)
        model = read_official(checkpoint, **options, **settings)
    yield f"read {checkpoint}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters"
    if not getattr(model.config, "text_tower", True):
        yield "the model lacks a text tower, so it cannot read labels; give the CLIP it was trained from with --clip CLIP"
    tokenizer = None
    if tokenizer_source is not None:
        if not model.config.reads_text:
            raise ValueError(f"The model of {method} reads no text. Leave --clip out.")
        tokenizer = load_tokenizer(tokenizer_source, model.config.text_config.vocab_size)
    processor = METHODS[method].processor.for_config(model.config, tokenizer, **sampling)
    if labels is not None:
        yield _store_labels(model, processor, labels)
    yield from _write_whole(output, model, processor)
    if tokenizer is None and model.config.reads_text:
        yield "the folder lacks a tokenizer, so it cannot read labels; give one with --clip CLIP"


def _check_options(method: str, read_official: Callable[..., VideoRecognizer], options: Mapping[str, Any]) -> None:
    unknown = sorted(options.keys() - inspect.signature(read_official).parameters.keys())
    if unknown:
        raise ValueError(f"The checkpoints of {method} are read without {unknown[0]}. Leave it out.")


def _as_plain_clip(checkpoint: str | Path) -> str | None:
    """Give the CLIP folder or hub id that a checkpoint names, or None when it names a file."""
    name = str(checkpoint)
    if name == EMBEDDED:
        return str(mini_clip_path())
    if Path(name).is_dir():
        return name
    looks_like_hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and Path(name).suffix not in (
        ".pt",
        ".pth",
        ".safetensors",
    )
    return name if looks_like_hub_id and not Path(name).parent.exists() else None


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ValueError(f"The output {output} is a file. Name a folder.")
    foreign = sorted({path.name for path in output.iterdir()} - _OWN_FILES) if output.is_dir() else []
    if foreign:
        raise ValueError(f"The output folder {output} holds other things, first {foreign[0]}. Name a new folder.")


@torch.inference_mode()
def _store_labels(
    model: VideoRecognizer, processor: RecognizerProcessor | RecognizerVideoProcessor, labels: Sequence[str]
) -> str:
    rows = None if model.config.reads_text else model.candidates()
    if rows is not None:
        model.set_candidates(labels, rows)
        return f"named {len(labels)} classes"
    if not isinstance(processor, RecognizerProcessor):
        raise ValueError("Labels can be stored only with a tokenizer. Give one with --clip CLIP.")
    model.set_candidates(labels, model.eval().encode_text(**processor(text=labels)))
    return f"stored {len(labels)} labels"


def _write_whole(output: Path, *parts: Any) -> Iterator[str]:
    """Save into a hidden folder beside the output, then put it in place."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        for part in parts:
            part.save_pretrained(partial)
        partial.chmod(0o755)  # mkdtemp makes a private folder
        if output.exists():
            shutil.rmtree(output)
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    yield f"wrote {output}: {', '.join(sorted(path.name for path in output.iterdir()))}"
