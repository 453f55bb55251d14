"""Find out in which precision a device multiplies matrices fastest."""

import time
from functools import cache

import torch
from torch.nn.functional import linear

# frames of a ViT-B/32 as rows, and the width of its tower
_ROWS, _WIDTH = 400, 768


def is_bf16_faster(device: torch.device) -> bool:
    """Check whether `device` has instructions that multiply in bfloat16, and on a CPU whether they are faster than float32.

    A processor without such instructions emulates bfloat16. Those of Intel that have AVX-512 bf16 but no AMX, as in some virtual machines,
    multiply about half as fast as in float32; those of AMD two to three times as fast.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return device.type == "cpu" and any(check is not None and check() for check in checks) and _measure_on_cpu()


@cache
@torch.inference_mode()
def _measure_on_cpu() -> bool:
    """Time one product in both precisions, about 50 ms in all; the shortest of five counts."""
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for dtype in 5 * list(seconds):
        rows, weight = torch.ones(_ROWS, _WIDTH, dtype=dtype), torch.ones(_WIDTH, _WIDTH, dtype=dtype)
        start = time.perf_counter()
        linear(rows, weight)
        seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
    return seconds[torch.bfloat16] < seconds[torch.float32]
