"""DSTPR's parts against the official code that they follow: Vita-CLIP's prompts, BIKE's weights, TAdaConv."""

from typing import Any

import pytest
import torch

from kinoclip import DstprConfig, DstprModel
from kinoclip.methods.dstpr.reparameterization import TemporallyAdaptiveConvolution
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures

# the goldens were made in float32 on one thread
EXACT = {"atol": 1e-5, "rtol": 1e-5}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 99}
IDS = {"bos_token_id": 97, "eos_token_id": 98, "pad_token_id": 0}
# of the recorded tower
VISION = {
    "hidden_size": 24,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 16,
    "patch_size": 4,
}
SIZES = {"projection_dim": 10, "num_frames": 4}
# recorded run -> which kinds of prompts are on: s(ummary) is the class prompt, l(ocal) the interchange
OFF = {"class_prompts": False, "interchange": "none", "num_global_prompts": 0}
RUNS = {
    "s0l0g0": {"temporal_prompts": False, "temporal_embedding": True},
    "s1l0g0": {**OFF, "class_prompts": True},
    "s0l1g0": {**OFF, "interchange": "shared"},
    "s0l0g1": {**OFF, "num_global_prompts": 5},
    "s1l1g0": {"num_global_prompts": 0},
    "s1l1g1": {"num_global_prompts": 5},
}


def _vision_names(recorded: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name Vita-CLIP's weights as here."""
    parts = {
        "blocks.": "vision_model.encoder.layers.",
        ".attn.": ".self_attn.",
        ".norm1.": ".layer_norm1.",
        ".norm2.": ".layer_norm2.",
        "ln_pre.": "vision_model.pre_layrnorm.",
        "ln_post.": "vision_model.post_layernorm.",
        "cls_token": "vision_model.embeddings.class_embedding",
        "pos_embed": "vision_model.embeddings.position_embedding.weight",
        "patch_embed.proj.weight": "vision_model.embeddings.patch_embedding.weight",
        "time_embed": "prompts.time_embedding.weight",
    }
    prompts = {
        "cls_proj.": "class_projection.",
        "summary_ln.": "class_norm.",
        "summary_attn_layer.": "class_attention.",
        "local_prompts": "interchange_prompts.weight",
    }
    named = {}
    for name, tensor in recorded.items():
        if any(part in name for part in prompts):
            name = name.replace("blocks.", "prompts.layers.")
        for part, ours in (parts | prompts).items():
            name = name.replace(part, ours)
        named[name] = tensor.squeeze(0) if "interchange" in name else tensor
    # CLIP's patches have no bias: what Vita-CLIP adds to each patch belongs to its position
    named["vision_model.embeddings.position_embedding.weight"][1:] += named.pop("patch_embed.proj.bias")
    named["visual_projection.weight"] = named.pop("proj").T
    for layer, table in enumerate(named.pop("global_prompts")):
        named[f"prompts.layers.{layer}.global_prompts.weight"] = table
    return named


@pytest.fixture(scope="module")
def vita(load_golden):
    return load_golden("vita_prompts")


@pytest.fixture
def build(vita):
    def build(**fields: Any) -> DstprModel:
        config = DstprConfig(text_config={**TEXT, **IDS}, vision_config=VISION, reparam="none", **SIZES, **fields)
        model = DstprModel(config).eval()
        weights = _vision_names(
            {name.removeprefix("w."): t.clone() for name, t in vita.inputs.items() if name != "video"}
        )
        report = model.load_state_dict(weights, strict=False)
        assert not [name for name in report.missing_keys if not name.startswith(("text_", "logit_scale"))]
        assert all(name.startswith("prompts.") for name in report.unexpected_keys)  # of kinds that are off
        return model

    return build


@pytest.mark.parametrize("run", RUNS)
def test_prompts_of_each_kind_give_the_official_features_and_tokens_of_the_last_layer(vita, build, run):
    model, pixels, official = build(**RUNS[run]), vita.inputs["video"].transpose(1, 2), vita.outputs
    with torch.no_grad():
        frames, tokens = model.encode_frames(pixels).embeds, model.encode_tokens(pixels)
    torch.testing.assert_close(frames.mean(1), official[f"{run}.video_embed"], **EXACT)
    if run != "s1l1g1":  # whose tokens are recorded by layer
        torch.testing.assert_close(tokens, _without_global(official[f"{run}.last"]), **EXACT)


def _without_global(tokens):
    """Leave out the global prompts, which the official code keeps behind the class token until the next layer."""
    return torch.cat([tokens[:, :1], tokens[:, -16:]], 1)


@pytest.mark.parametrize("layer", range(3))
def test_each_layer_gets_the_official_prompts_and_gives_the_official_tokens(vita, build, layer):
    official = {name.partition(f"s1l1g1.block{layer}.")[2]: tensor for name, tensor in vita.outputs.items()}
    if "cat" not in official:
        pytest.skip(f"layer {layer} is not committed; give the folder with --goldens")
    model, seen = build(**RUNS["s1l1g1"]), []
    model.vision_model.encoder.layers[layer].register_forward_hook(lambda _, given, out: seen.append((*given, out)))
    with torch.no_grad():
        model.encode_tokens(vita.inputs["video"].transpose(1, 2))
    tokens, _, prompts, _, output = seen[0]
    torch.testing.assert_close(tokens, _without_global(official["in"]), **EXACT)
    torch.testing.assert_close(output, _without_global(official["out"]), **EXACT)
    # recorded in the order class token, interchange, global, patches, class prompt
    _, interchange, shared, _, class_prompt = official["cat"].split([1, 4, 5, 16, 1], dim=1)
    torch.testing.assert_close(prompts, torch.cat([class_prompt, shared, interchange], 1), **EXACT)


@pytest.mark.parametrize(("aggregation", "official"), [("word", "VCS.logits"), ("mean", "DP.logits")])
def test_scores_are_those_of_bike(load_golden, aggregation, official):
    golden = load_golden("dstpr_vcs")
    width = golden.inputs["vid_emb"].shape[-1]
    model = DstprModel(DstprConfig(**_tiny(width), temporal_prompts=False, frame_aggregation=aggregation))
    text = TextFeatures(embeds=golden.inputs["cls_emb"][None], words=golden.inputs["text_emb"])
    with torch.no_grad():
        output = model(frame_features=FrameFeatures(embeds=golden.inputs["vid_emb"]), text_features=text)
    torch.testing.assert_close(output.votes["video"], golden.outputs[official], **EXACT)


def _tiny(width: int) -> dict[str, Any]:
    vision = {**TEXT, "image_size": 4, "patch_size": 2}
    del vision["vocab_size"]
    return {"text_config": {**TEXT, **IDS}, "vision_config": vision, "projection_dim": width}


@pytest.fixture
def tada(load_golden):
    """The recorded convolution, and the module with its weights."""
    golden = load_golden("dstpr_tada")
    given = golden.inputs
    module = TemporallyAdaptiveConvolution(given["x"].shape[1], DstprConfig(**_tiny(16))).eval()
    state = {
        "convolution.weight": given["conv.weight"][0, 0][:, :, None],
        "convolution.bias": given["conv.bias"][0, 0],
        "video.weight": given["route.g.weight"][..., 0, 0, 0],
        "video.bias": given["route.g.bias"],
        "squeeze.weight": given["route.a.weight"][..., 0, 0],
        "squeeze.bias": given["route.a.bias"],
        "expand.weight": given["route.b.weight"][..., 0, 0],
    }
    state |= {f"norm.{name.removeprefix('route.bn.')}": t for name, t in given.items() if name.startswith("route.bn.")}
    module.load_state_dict(state)
    return golden, module


def test_the_adaptive_convolution_is_calibrated_and_computed_as_the_official_one(tada):
    golden, module = tada
    hidden = golden.inputs["x"][..., 0].movedim(1, -1)  # (B, W, T, P, 1) -> (B, T, P, W)
    with torch.no_grad():
        alpha, out = module.calibrate(hidden), module(hidden)
    torch.testing.assert_close(alpha, golden.outputs["alpha"][..., 0, 0].transpose(1, 2), **EXACT)
    torch.testing.assert_close(out, golden.outputs["out"][..., 0].movedim(1, -1), **EXACT)
