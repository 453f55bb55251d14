"""bfloat16 is chosen where the processor has instructions for it and they are faster."""

import time

import pytest
import torch

from kinoclip.modeling import precision
from kinoclip.modeling.precision import is_bf16_faster

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _measure_anew():
    precision._measure_on_cpu.cache_clear()
    yield
    precision._measure_on_cpu.cache_clear()


def set_instructions(monkeypatch, *names: str) -> None:
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in names, raising=False)


def test_without_instructions_nothing_is_measured(monkeypatch):
    set_instructions(monkeypatch)
    monkeypatch.setattr(precision, "_measure_on_cpu", lambda: pytest.fail("measured"))
    assert not is_bf16_faster(CPU)


@pytest.mark.parametrize(("slower", "expected"), [(torch.float32, True), (torch.bfloat16, False)])
@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_tile"])
def test_the_faster_precision_is_chosen(instructions, slower, expected, monkeypatch):
    set_instructions(monkeypatch, instructions)
    monkeypatch.setattr(precision, "linear", lambda rows, weight: time.sleep(0.004 if rows.dtype == slower else 0.001))
    assert is_bf16_faster(CPU) == expected
