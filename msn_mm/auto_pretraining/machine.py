"""What this machine has to train with."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from msn_mm.utils.cpu_cores import cpu_cores
from msn_mm.utils.device_memory import free_bytes

Kind = Literal["cuda", "mps", "cpu"]

_CPUINFO = Path("/proc/cpuinfo")
# Instructions without which bfloat16 is slower than float32 on a CPU.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
# Side of the matrices, and the least time to multiply them for.
_PROBE = {"cuda": 4096, "mps": 2048, "cpu": 1024}
_PROBE_S = 0.3


@dataclass(frozen=True)
class Machine:
    """What a training may use.

    Attributes:
        kind: Device that torch computes on.
        name: What the device calls itself.
        gpus: GPUs that torch sees; a training by one process uses one.
        memory: Bytes that the device has free; ``None`` where nothing tells.
        cores: CPU cores that this process may use, by affinity and the container's quota.
        has_bf16: Whether bfloat16 is computed faster than float32.
        flops_per_s: Of a plain matrix product, in the precision that training takes.
    """

    kind: Kind
    name: str
    gpus: int
    memory: int | None
    cores: int
    has_bf16: bool
    flops_per_s: float

    @property
    def device(self) -> torch.device:
        """The device."""
        return torch.device(self.kind, 0) if self.kind == "cuda" else torch.device(self.kind)

    def __str__(self) -> str:
        """Return the machine in a few words."""
        cores = f"{self.cores} CPU core{'s' * (self.cores != 1)}"
        parts = [cores] if self.kind == "cpu" else [self.name, cores]
        if self.memory is not None:
            parts.append(f"{self.memory / 2**30:.1f} GiB free")
        return f"{', '.join(parts)}; {self.flops_per_s / 1e9:,.0f} GFLOP/s in a matrix product"


def look_at_machine() -> Machine:
    """Look at the devices that torch sees, and time a matrix product on the one to be used."""
    kind = device_kind()
    device = torch.device(kind)
    has_bf16 = {
        "cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False),
        # Not tried on Apple's GPU by this project.
        "mps": lambda: False,
        "cpu": lambda: bool(_BF16_FLAGS & _cpu_flags()),
    }[kind]()
    names = {"cuda": torch.cuda.get_device_name, "mps": lambda: "Apple GPU (mps)"}
    return Machine(
        kind=kind,
        name=names.get(kind, platform.machine)(),
        gpus={"cuda": torch.cuda.device_count, "mps": lambda: 1}.get(kind, lambda: 0)(),
        memory=free_bytes(device),
        cores=cpu_cores(),
        has_bf16=has_bf16,
        flops_per_s=matrix_rate(device, torch.bfloat16 if has_bf16 else torch.float32),
    )


def device_kind() -> Kind:
    """Return the kind of device that MMEngine's runner takes by itself."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _cpu_flags() -> set[str]:
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    found = next((line for line in lines if line.startswith("flags")), "")
    return set(found.partition(":")[2].split())


def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float = _PROBE_S) -> float:
    """Return the FLOP/s of a product of square matrices, the best of repeated tries.

    Args:
        device: Where.
        dtype: Of the matrices.
        seconds: Least time to try for.
    """
    side = _PROBE[device.type]
    one = torch.full((side, side), 0.5, device=device, dtype=dtype)
    best, spent = math.inf, 0.0
    one @ one  # kernels are chosen at the first
    while spent < seconds:
        began = time.perf_counter()
        float((one @ one)[0, 0])  # waits for the device
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return 2 * side**3 / best
