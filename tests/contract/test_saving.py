"""What a saved folder holds, and what comes back from it."""

import copy
import json

import pytest
import torch
from accelerate import infer_auto_device_map
from huggingface_hub import HfApi, RepoUrl
from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPModel
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from .conftest import EVERY_KIND


@pytest.fixture
def model(fresh):
    return fresh


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@EVERY_KIND
def test_a_saved_model_comes_back_bit_for_bit(model, folder, inputs, output):
    loaded, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert type(loaded) is type(model)
    assert load_file(folder / "model.safetensors").keys() == model.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**inputs).logits, output.logits)


def test_weights_in_several_files_come_back_bit_for_bit(model, inputs, output, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    with torch.no_grad():
        assert torch.equal(AutoModel.from_pretrained(tmp_path).eval()(**inputs).logits, output.logits)


def test_plain_clip_reads_the_towers_of_a_saved_folder(model, inner, folder):
    if inner is not model:
        pytest.skip("its towers lie one name deeper")
    clip, report = CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in clip.state_dict().items())


def test_a_saved_folder_holds_weights_config_and_shim_and_no_copied_code(model, folder):
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "kinoclip_shim.py"}
    name = f"kinoclip_shim.{type(model).__name__}"
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    assert auto_map["AutoConfig"] == f"kinoclip_shim.{type(model.config).__name__}"
    assert auto_map["AutoModel"] == auto_map["AutoModelForVideoClassification"] == name


def test_a_half_precision_checkpoint_is_loaded_as_it_is_or_as_asked(model, inputs, output, tmp_path):
    model.half().save_pretrained(tmp_path)
    kept = AutoModel.from_pretrained(tmp_path, dtype="auto")
    raised = AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert {p.dtype for p in kept.parameters()} == {torch.float16}
    assert {p.dtype for p in raised.parameters()} == {torch.float32}
    with torch.no_grad():
        # weights rounded to 11 bits; the score is a cosine
        close = {"atol": 5e-3, "rtol": 0}
        torch.testing.assert_close(raised(**inputs).votes["video"], output.votes["video"], **close)
        assert kept.eval()(**inputs).logits.isfinite().all()


@EVERY_KIND
def test_weights_missing_from_a_file_start_as_new_ones_and_the_others_keep_their_values(model, inner, folder):
    if inner is not model:
        pytest.skip("what it adds starts otherwise, see its own tests")
    path = folder / "model.safetensors"
    state = load_file(path)
    clip = ("text_model.", "vision_model.", "visual_projection.", "text_projection.")
    removed = [name for name in state if name == "logit_scale" or (not name.startswith(clip) and hash_even(name))]
    save_file({name: t for name, t in state.items() if name not in removed}, path, metadata={"format": "pt"})

    loaded, report = type(model).from_pretrained(folder, output_loading_info=True)

    assert sorted(report["missing_keys"]) == sorted(removed)
    found = loaded.state_dict()
    assert all(torch.equal(found[name], state[name]) for name in state if name not in removed)
    assert found["logit_scale"] == pytest.approx(model.config.logit_scale_init_value)
    assert {name: start_of(name, found[name]) for name in removed} == dict.fromkeys(removed, "as a new one")


def hash_even(name: str) -> bool:
    """Choose about half of the names, so that modules lose some of their weights and keep others."""
    return sum(map(ord, name)) % 2 == 0


def start_of(name: str, tensor: torch.Tensor) -> str:
    """Say whether values are what a new module starts with: norms 1, biases 0, scales 2.6592, others small and random."""
    if name.startswith("prompts."):  # as torch starts it; how exactly is a test of the method
        fits = bool(tensor.abs().max() <= 1)
    elif name in ("corpus", "token_reduction.weights.weight"):  # no entities yet, and a mean
        fits = len(tensor.unique()) == 1
    elif name.endswith("bias"):
        fits = not tensor.any()
    elif "norm" in name:
        fits = bool((tensor == 1).all())
    elif name.endswith("logit_scale"):
        fits = tensor.item() == pytest.approx(2.6592)
    else:  # normal with deviation 0.02, the attention's xavier-uniform with sqrt(2 / 128) = 0.125, ALT's fan-in variance
        most = max(0.15, 1.3 * tensor[0].numel() ** -0.5)
        fits = 0.015 < tensor.std() < most and abs(tensor.mean()) < 5 * tensor.std() * tensor.numel() ** -0.5
    return "as a new one" if fits else f"mean {tensor.mean():.3g}, deviation {tensor.std():.3g}"


@pytest.mark.parametrize("kind", ["bike", "sllm_tam", "alt"])
def test_push_to_hub_sends_everything_that_a_folder_needs(recognizer, model, processor, monkeypatch):
    sent = []
    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, repo_id, **kwargs: RepoUrl(f"https://huggingface.co/{repo_id}")
    )
    monkeypatch.setattr(HfApi, "create_commit", lambda self, repo_id, operations, **kwargs: sent.extend(operations))
    model.push_to_hub("somebody/model")
    processor.push_to_hub("somebody/model")
    files = {operation.path_in_repo for operation in sent}
    assert files >= {"config.json", "model.safetensors", "processor_config.json", "kinoclip_shim.py"}
    assert ("tokenizer.json" in files) == recognizer.reads_text
    shim = [operation.path_or_fileobj for operation in sent if operation.path_in_repo == "kinoclip_shim.py"]
    assert len(shim) == 2


def test_no_layer_is_shared_out_to_two_devices(model):
    """As `device_map="auto"` shares out a model, of which the first device takes a part."""
    size = sum(tensor.numel() * 4 for tensor in model.state_dict().values())
    layers = [f"{name}." for name, module in model.named_modules() if isinstance(module, CLIPEncoderLayer)]
    for percent in range(30, 100, 5):
        room = {"cpu": size * percent // 100, "disk": 10 * size}
        places = infer_auto_device_map(model, room, no_split_module_classes=list(model._no_split_modules))
        assert not [place for place in places if place.startswith(tuple(layers))]


@EVERY_KIND
def test_every_weight_that_a_checkpoint_lacks_is_initialized_as_in_a_new_model(recognizer, model):
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills new memory with NaN
    try:
        loaded = type(model).from_pretrained(None, config=copy.deepcopy(model.config), state_dict={})
        new = type(model)(copy.deepcopy(model.config))
    finally:
        torch.use_deterministic_algorithms(False)
    expected, found = ({name: t.float() for name, t in each.state_dict().items()} for each in (new, loaded))
    assert found.keys() == expected.keys()
    assert not [name for name, tensor in found.items() if tensor.isnan().any()]
    # spreads of random numbers differ by less where there are many
    large = [name for name, tensor in found.items() if tensor.numel() >= 1000 and "corpus" not in name]
    assert not [name for name in large if not 0.8 < (found[name].std() + 1e-9) / (expected[name].std() + 1e-9) < 1.25]
