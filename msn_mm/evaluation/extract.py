"""Features of a whole data loader, outside of a runner's loops."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from msn_mm.errors import UserError
from msn_mm.evaluation.features import Features


@torch.inference_mode()
def extract(model: nn.Module, dataloader: Iterable[dict[str, Any]]) -> Features:
    """Run a model's ``tensor`` mode over a data loader of labelled images.

    The model is in evaluation mode meanwhile; every submodule gets back the
    mode that it had, also after an error.

    Args:
        model: Model with a ``data_preprocessor`` and
            ``forward(inputs, data_samples, mode="tensor") -> (B, D)``.
        dataloader: Yields ``{"inputs": uint8 (B, C, H, W), "data_samples":
            {"index", "label", "support"}}``.

    Returns:
        The features in the order of the data loader, on the host.

    Raises:
        UserError: The data loader is empty.
    """
    modes = [(module, module.training) for module in model.modules()]
    features, labels, support = [], [], []
    try:
        model.eval()
        for batch in dataloader:
            data = model.data_preprocessor(batch, False)  # type: ignore[operator]
            output = model(data["inputs"], data["data_samples"], mode="tensor")
            features.append(output.float().cpu())
            labels.append(torch.as_tensor(batch["data_samples"]["label"]).cpu())
            support.append(torch.as_tensor(batch["data_samples"]["support"]).cpu())
    finally:
        for module, training in modes:
            module.training = training
    if not features:
        raise UserError("the evaluation data loader gives no images")
    return Features(
        torch.cat(features).numpy(),
        torch.cat(labels).numpy().astype(np.int64),
        torch.cat(support).numpy().astype(np.bool_),
    )
