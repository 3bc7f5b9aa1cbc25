"""Adafactor of Hugging Face's transformers, loaded when a config asks for it."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from msn_mm.errors import UserError
from msn_mm.registry import OPTIMIZERS


@OPTIMIZERS.register_module(name="Adafactor")
def adafactor(params: Any, **kwargs: Any) -> Optimizer:
    """Return :class:`transformers.Adafactor` (Shazeer & Stern 2018, arXiv 1804.04235).

    MMEngine registers it while it is imported, which loads transformers for every
    training; see :mod:`msn_mm.hidden_imports`. torch's is ``TorchAdafactor``.

    Args:
        params: Parameters or their groups.
        **kwargs: As :class:`transformers.Adafactor`.

    Raises:
        UserError: transformers is not installed.
    """
    try:
        from transformers import Adafactor
    except ImportError as error:
        raise UserError(
            "Adafactor is the one of transformers: pip install 'msn_mm[hf]', or choose another "
            "optimizer, e.g. AdamW"
        ) from error
    return Adafactor(params, **kwargs)
