"""Find out in which precision a device multiplies matrices fastest."""

import platform
from pathlib import Path

import torch


def is_bf16_faster(device: torch.device) -> bool:
    """Check whether `device` multiplies faster in bfloat16 than in float32.

    On a CPU that takes AMX, or AVX-512 bf16 of AMD. Other processors emulate bfloat16, or have AVX-512 bf16 of Intel without AMX, as some virtual
    machines do, which is slower than float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    is_amd = "AuthenticAMD" in _describe_cpu()
    return device.type == "cpu" and (_has("amx_tile") or (_has("avx512_bf16") and is_amd))


def has_vnni() -> bool:
    """Check whether the processor has instructions for sums of products in 8 bits: AVX-512 VNNI or AVX-VNNI."""
    return _has("vnni") or "avx_vnni" in _describe_cpu().split()


def _has(instructions: str) -> bool:
    check = getattr(torch.cpu, f"_is_{instructions}_supported", None)
    return check is not None and check()


def _describe_cpu() -> str:
    """Return what Linux, or another system, tells of the processor."""
    information = Path("/proc/cpuinfo")
    return information.read_text() if information.exists() else platform.processor()
