"""Token merging against the official ToMe, run on random weights."""

import pytest
import torch
from transformers import CLIPVisionConfig

from kinoclip.modeling.layers.token_merging import (
    MergingEncoder,
    follow_tokens,
    merge_schedule,
    merge_tokens,
    plan_merge,
)

# the goldens were made in float32 on one thread
EXACT = {"atol": 1e-5, "rtol": 1e-5}
MERGES = ["m0", "m1", "m2", "m3", "m8"]  # with a class token
RUNS = [f"r{number}_{kind}" for number in range(5) for kind in ("prop", "noprop")]
# what stands for each part of a block in the official code
NAMES = {"norm1": "layer_norm1", "norm2": "layer_norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}


def source_matrix(positions, num_tokens):
    """Write positions (N, n) as a matrix (N, num_tokens, n) of ones where a token ended and zeros elsewhere."""
    return (positions[:, None] == torch.arange(num_tokens)[:, None]).float()


@pytest.fixture
def golden(load_golden):
    return load_golden("tome")


class Merge:
    """One recorded merge."""

    def __init__(self, golden, name):
        self.meta = next(case for case in golden.meta["match_cases"] if case["name"] == name)
        self.metric, self.tokens = golden.inputs[f"{name}.metric"], golden.inputs[f"{name}.x"]
        self.sizes, self.second_metric = golden.inputs.get(f"{name}.size"), golden.inputs.get(f"{name}.metric2")
        length = len(name) + 1
        self.official = {key[length:]: t for key, t in golden.outputs.items() if key.startswith(f"{name}.")}

    @property
    def plan(self):
        return plan_merge(self.metric, self.meta["r"])


@pytest.fixture(params=MERGES)
def merge(request, golden):
    return Merge(golden, request.param)


def test_kept_and_merged_tokens_sizes_and_sources_are_the_official_ones(merge):
    plan, official = merge.plan, merge.official
    found = {"unm_idx": plan.kept, "src_idx": plan.sources, "dst_idx": plan.targets}
    for name, index in found.items():
        assert torch.equal(index, official[name].long())
    tokens, sizes = merge_tokens(merge.tokens, merge.sizes, plan)
    torch.testing.assert_close(tokens, official["merged"], **EXACT)
    assert torch.equal(sizes, official["size"])
    # without sizes, merged tokens are plain means
    torch.testing.assert_close(merge_tokens(merge.tokens, None, plan)[0], official["mean"], **EXACT)
    positions = follow_tokens(plan)
    assert torch.equal(source_matrix(positions, official["merged"].shape[1]), official["source"])
    rows = torch.arange(len(positions))[:, None]
    assert torch.equal(official["merged"][rows, positions], official["unmerged"])


@pytest.mark.parametrize("name", ["m0", "m3"])
def test_a_second_merge_goes_on_from_the_first(golden, name):
    first = Merge(golden, name)
    tokens, sizes = merge_tokens(first.tokens, first.sizes, first.plan)
    second = plan_merge(first.second_metric, first.meta["second"])
    positions = follow_tokens(second).gather(1, follow_tokens(first.plan))
    tokens, sizes = merge_tokens(tokens, sizes, second)
    torch.testing.assert_close(tokens, first.official["2.merged"], **EXACT)
    assert torch.equal(sizes, first.official["2.size"])
    assert torch.equal(source_matrix(positions, tokens.shape[1]), first.official["2.source"])


@pytest.mark.parametrize("name", ["m6", "m7"])
def test_with_no_or_two_tokens_to_merge_nothing_happens(golden, name):
    assert Merge(golden, name).plan is None


def test_schedules_are_the_official_ones(golden):
    rows = golden.meta["parse_r"]
    found = [merge_schedule(_written_here(row["r"]), row["layers"]) for row in rows]
    assert found == [row["out"] for row in rows]


def _written_here(merge_r):
    # a pair is a tuple there; here its second number is a float
    return [merge_r["tuple"][0], float(merge_r["tuple"][1])] if isinstance(merge_r, dict) else merge_r


@pytest.fixture(params=["eager", "sdpa"])
def encode(request, golden):
    """Run the recorded layers."""
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        attn_implementation=request.param,
    )
    state = {}
    for name, tensor in golden.inputs.items():
        if name.startswith("vit.blocks."):
            number, _, rest = name.removeprefix("vit.blocks.").partition(".")
            state |= {f"layers.{number}.{ours}": part for ours, part in _rename(rest, tensor).items()}

    def run(name):
        meta = next(run for run in golden.meta["runs"] if run["name"] == name)
        encoder = MergingEncoder(config, merge_schedule(_written_here(meta["r"]), 4), meta["prop_attn"])
        encoder.load_state_dict(state)
        with torch.no_grad():
            return encoder(golden.inputs["embeddings"])

    return run


def _rename(name, tensor):
    part, _, kind = name.rpartition(".")
    if part == "attn.qkv":
        return dict(zip((f"self_attn.{x}_proj.{kind}" for x in "qkv"), tensor.chunk(3), strict=True))
    return {f"self_attn.out_proj.{kind}" if part == "attn.proj" else f"{NAMES[part]}.{kind}": tensor}


@pytest.mark.parametrize("name", RUNS)
def test_tokens_after_four_layers_are_the_official_ones(encode, golden, name):
    output, official = encode(name), golden.outputs
    torch.testing.assert_close(output.last_hidden_state, official[f"{name}.block3.out"], **EXACT)
    if name.startswith("r0"):
        assert output.sizes is None
        return
    assert torch.equal(output.sizes, official[f"{name}.block3.size"])
    regions = source_matrix(output.regions + 1, output.sizes.shape[1])
    # the first column is the class token's, which stays by itself
    assert torch.equal(regions.to(torch.uint8), official[f"{name}.source"][..., 1:])
