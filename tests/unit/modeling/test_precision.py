"""bfloat16 is chosen where it is faster than float32."""

import pytest
import torch

from kinoclip.modeling import precision
from kinoclip.modeling.precision import has_vnni, is_bf16_faster


@pytest.mark.parametrize(
    ("instructions", "vendor", "expected"),
    [
        ([], "AuthenticAMD", False),
        (["avx512_bf16"], "AuthenticAMD", True),
        (["avx512_bf16"], "GenuineIntel", False),
        (["avx512_bf16", "amx_tile"], "GenuineIntel", True),
    ],
)
def test_bf16_is_faster_with_amx_and_on_processors_of_amd(instructions, vendor, expected, tmp_path, monkeypatch):
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in instructions, raising=False)
    information = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "Path", lambda _: information)
    monkeypatch.setattr(precision.platform, "processor", lambda: f"Family 25, {vendor}")  # where there is no such file
    assert is_bf16_faster(torch.device("cpu")) == expected
    information.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    assert is_bf16_faster(torch.device("cpu")) == expected


@pytest.mark.parametrize(
    ("torch_knows", "flags", "expected"),
    [(True, "sse avx512_vnni", True), (False, "sse avx_vnni", True), (False, "sse avx2", False)],
)
def test_vnni_is_that_of_avx_512_or_of_avx(torch_knows, flags, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: torch_knows, raising=False)
    information = tmp_path / "cpuinfo"
    information.write_text(f"flags\t: {flags}\n")
    monkeypatch.setattr(precision, "Path", lambda _: information)
    assert has_vnni() == expected


def test_releases_of_torch_without_these_checks_are_taken_for_processors_without_bf16(monkeypatch):
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.delattr(torch.cpu, f"_is_{name}_supported", raising=False)
    assert not is_bf16_faster(torch.device("cpu"))
