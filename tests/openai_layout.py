"""CLIP checkpoints in OpenAI's layout, made from Transformers' weights."""

import torch
from torch import Tensor, nn

_NAMES = (
    ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),
    ("vision_model.post_layernorm.", "visual.ln_post."),
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("visual_projection.weight", "visual.proj"),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_model.embeddings.token_embedding.", "token_embedding."),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm.", "ln_final."),
    ("text_projection.weight", "text_projection"),
    (".self_attn.out_proj.", ".attn.out_proj."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
)


def to_openai(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the weights of a `CLIPModel` as OpenAI does."""
    official: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".q_proj." in name:
            tensor = torch.cat([state[name.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"])
            name = name.replace(".self_attn.q_proj.", ".attn.in_proj_")
        elif ".k_proj." in name or ".v_proj." in name:
            continue
        for ours, theirs in _NAMES:
            name = name.replace(ours, theirs)
        official[name] = tensor.T.contiguous() if name in ("visual.proj", "text_projection") else tensor
    return official


def to_module(state: dict[str, Tensor]) -> nn.Module:
    """Give a module tree whose parameters have these dotted names, as the archives of OpenAI's release hold."""
    root = nn.Module()
    for name, tensor in state.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(last, nn.Parameter(tensor))
    for name, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 100)):
        root.register_buffer(name, torch.tensor(value))
    return root
