"""Run a batch through a per-sample function a few rows at a time, as if in one pass.

Where every row of the output depends on its own row of the input alone, a pass in
pieces gives the rows of a pass at once. With gradients the pieces' activations are
dropped in the forward pass, and made again in the backward pass, piece by piece, from
the gradients of all rows: gradient checkpointing (Chen et al. 2016, arXiv 1604.06174)
of rows in the place of layers. Whatever joins the rows, such as batch norm of a head or
a loss over the batch, sees all of them in between.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from msn_mm.errors import UserError

AUTO = "auto"
MicroBatch = int | Literal["auto"] | None
Rows = TypeVar("Rows", Tensor, tuple[Tensor, ...])


def check_micro_batch(size: MicroBatch, trunk: nn.Module) -> MicroBatch:
    """Return ``size``, if it is one and ``trunk`` treats each row by itself.

    Raises:
        UserError: Neither a positive whole number nor ``"auto"`` nor None, or the
            trunk has batch norm.
    """
    if size is None:
        return None
    if size != AUTO and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise UserError(
            f"model.micro_batch is {size!r:.60}; give a whole number of views of at least 1, "
            "'auto', or None for all at once"
        )
    if any(isinstance(module, _BatchNorm) for module in trunk.modules()):
        raise UserError(
            f"model.micro_batch: backbone {type(trunk).__name__} has batch norm, which joins the "
            "images of a batch; leave micro_batch out, and use more processes or "
            "accumulation (not the same training)"
        )
    return size


def in_pieces(function: Callable[..., Rows], size: MicroBatch, *rows: Tensor | None) -> Rows:
    """Apply a per-sample function to at most ``size`` rows at a time.

    Args:
        function: Takes as many arguments as there are ``rows``, each a tensor or None.
            Returns a tensor, or a tuple of them, in the order of the rows; a row of the
            input may give any number of rows.
        size: Rows of a piece; None for all at once, without any recomputation.
        rows: Tensors of equal length, or None, which each piece gets as it is.

    Returns:
        What ``function`` gives, the pieces' rows joined.

    Raises:
        UserError: If ``size`` is still ``"auto"``.
    """
    if size is None:
        return function(*rows)
    if not isinstance(size, int):
        raise UserError(
            f"model.micro_batch is {size!r}, which a launched training settles (tools/train.py); "
            "give a number here"
        )
    count = next(len(part) for part in rows if part is not None)
    pieces = [
        [None if part is None else part[start : start + size] for part in rows]
        for start in range(0, count, size)
    ]
    device = next(part.device.type for part in rows if part is not None)
    with _own_casts(device):
        if torch.is_grad_enabled():
            outputs = [checkpoint(function, *piece, use_reentrant=False) for piece in pieces]
        else:
            outputs = [function(*piece) for piece in pieces]
    if isinstance(outputs[0], Tensor):
        return torch.cat(outputs)
    return tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))


def _own_casts(device: str) -> AbstractContextManager[object]:
    """Let autocast cast the weights anew in each piece.

    A cast that pieces shared would sum their gradients in bfloat16, so that the error
    grew with their number; of their own they are summed in float32.
    """
    if not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, dtype=torch.get_autocast_dtype(device), cache_enabled=False)
