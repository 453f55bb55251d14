"""Record checkpoints of commit 0c051e6: `PYTHONPATH=OLD/src:tests/contract/old_checkpoints python record.py`.

Weights are drawn from a seed by name, so that only names, shapes, configs and logits are stored.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).parent
LABELS = ["red circle moving left", "square", "a blue triangle"]
CHINESE_IDS = [[[1, 7, 2, 0], [1, 8, 9, 2], [1, 5, 2, 0]]]
ATTRIBUTES = [["red", "moving"], ["square"]]


def draw_weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Draw small normal weights; norms start at one, and so do variances, which must be positive."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in sorted(shapes.items()):
        values = 0.1 * torch.randn(shape, generator=generator)
        is_norm = "norm" in name or "bn" in name or "running_var" in name or ".downsample.1." in name
        weights[name] = 1 + values.abs() if is_norm and name.endswith(("weight", "running_var")) else values
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.zeros(shape, dtype=torch.long)
    return weights


def make_inputs(processor: Any, kind: dict[str, Any]) -> dict[str, Tensor]:
    """Make two videos of four frames, and the texts that the kind reads."""
    inputs = {"pixel_values_videos": torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))}
    if kind["reads_text"]:
        inputs |= dict(processor(text=LABELS))
    if kind["chinese"]:
        inputs["chinese_input_ids"] = torch.tensor(CHINESE_IDS)
    if kind["attributes"]:
        inputs["attribute_input_ids"] = processor.encode_attributes(ATTRIBUTES)
    return inputs


def record(name: str, model: Any, processor: Any, **options: bool) -> None:
    """Write the config, the processor's settings, names and shapes, and the logits of a kind."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoModel

    folder = HERE / name
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    file = folder / "model.safetensors"
    shapes = {key: list(tensor.shape) for key, tensor in load_file(file).items()}
    save_file(draw_weights(shapes), file, {"format": "pt"})
    kind = {"reads_text": False, "chinese": False, "attributes": False, **options}
    with torch.no_grad():
        output = AutoModel.from_pretrained(folder).eval()(**make_inputs(processor, kind))
    for path in folder.iterdir():
        if path.name not in ("config.json", "processor_config.json"):
            path.unlink()
    votes = {branch: vote.tolist() for branch, vote in output.votes.items()}
    content = {**kind, "shapes": shapes, "logits": output.logits.tolist(), "votes": votes}
    (folder / "recorded.json").write_text(json.dumps(content))


if __name__ == "__main__":
    from transformers import CLIPTokenizer

    import kinoclip as k

    clip = next(Path(k.__file__).parent.rglob("mini_clip_weights"))
    tokenizer = CLIPTokenizer.from_pretrained(clip)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 1, "projection_dim": 32}
    text = {**size, "num_hidden_layers": 1, "vocab_size": len(tokenizer), "pad_token_id": 0}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = {**size, "num_hidden_layers": 2, "image_size": 32, "patch_size": 16}
    towers = {"text_config": text, "vision_config": vision, "projection_dim": 32, "num_frames": 4}
    chinese = {**size, "vocab_size": 30, "num_hidden_layers": 1, "pad_token_id": 0}
    head = {"temporal_layers": 1}

    def build(name: str, fields: dict[str, Any], **options: bool) -> None:
        config = getattr(k, f"{name}Config")(**towers, **fields)
        model = getattr(k, f"{name}Model")(config)
        if name == "Alt":
            model.set_corpus([f"entity {number}" for number in range(6)], torch.randn(6, 32))
        processor = getattr(k, f"{name}Processor").for_config(config, tokenizer)
        record(name.lower(), model, processor, reads_text=True, **options)

    build("ActionClip", {**head, "temporal_shift": True, "temporal_head": "transformer_cls"})
    build("Alt", {"merge_r": 1, "decoder_layers": 1, "train_encoder": "SM"})
    build("Bike", {**head, "attributes": "own"}, attributes=True)
    build("Dstpr", {"chinese_branch": True, "chinese_text_config": chinese}, chinese=True)
    build("Text4Vis", {**head, "temporal_shift": "token_t1d"})
    inner = k.Text4VisModel(k.Text4VisConfig(**towers, **head))
    sllm = k.SllmModel.from_recognizer(inner, restorer_layers=1)
    record("sllm", sllm, k.SllmProcessor.for_config(sllm.config, tokenizer), reads_text=True)
    resnet = {"block": "basic", "stage_blocks": [1] * 4, "stage_widths": [8, 8, 16, 32], "stem_width": 8}
    tam = k.TamModel(k.TamConfig(**resnet, image_size=32, num_frames=4, id2label=dict(enumerate(LABELS))))
    record("tam", tam, k.TamProcessor.for_config(tam.config))
