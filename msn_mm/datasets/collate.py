"""From samples to a training batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.registry import FUNCTIONS
from torch import Tensor


@FUNCTIONS.register_module()
def multi_view_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack the views of B samples, view-major.

    Args:
        samples: What :class:`msn_mm.datasets.MultiViewDataset` gives, B of them.

    Returns:
        ``inputs``: for each group ``images`` uint8 (V * B, C, S, S), ``key`` int64
        (V * B,) and ``params``, for each operation float32 (V * B, n); rows
        v * B ... v * B + B - 1 are view v. ``data_samples``: ``index`` int64 (B,)
        and ``unreadable``, a list of (path, reason).
    """
    inputs: dict[str, Any] = {}
    for name, group in samples[0]["inputs"].items():
        groups = [sample["inputs"][name] for sample in samples]
        inputs[name] = {
            "images": _images([g["images"] for g in groups]),
            "key": _view_major([g["key"] for g in groups]),
            "params": {
                op: _view_major([g["params"][op] for g in groups]) for op in group["params"]
            },
        }
    data = [sample["data_samples"] for sample in samples]
    return {
        "inputs": inputs,
        "data_samples": {
            "index": torch.tensor([d["index"] for d in data], dtype=torch.int64),
            "unreadable": [bad for d in data for bad in d["unreadable"]],
        },
    }


def _images(arrays: Sequence[np.ndarray]) -> Tensor:
    """Stack images (V, C, S, S) and leave their channels where they lie in memory."""
    last = [array.transpose(0, 2, 3, 1) for array in arrays]
    if last[0].flags.c_contiguous:
        return _view_major(last).permute(0, 3, 1, 2)
    return _view_major(arrays)


def _view_major(arrays: Sequence[np.ndarray]) -> Tensor:
    """Stack B arrays (V, ...) to a tensor (V * B, ...)."""
    stacked = np.stack(arrays, axis=1)
    return torch.from_numpy(stacked.reshape(-1, *stacked.shape[2:]))
