"""Transformer blocks run by ``torch.compile``: one graph for all blocks of a kind."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from msn_mm.errors import UserError

# Graphs of one process: shapes of the views, with and without gradients, of each model in it.
_GRAPHS = 64


def compile_blocks_(blocks: Iterable[nn.Module], backend: str = "inductor") -> None:
    """Let blocks run compiled in training mode; in evaluation they stay as they are.

    All share one compiled function whose input the block's weights are, so a
    graph is made for each shape of the tokens and not for each block, and none
    after the first step. Modules, their names in the state dict and their hooks
    stay; so a wrapper that fetches a block's weights by a hook still does. A
    deep copy is compiled too, on its own weights.

    Args:
        blocks: Modules from ``(B, T, D)`` to the same.
        backend: As ``torch.compile`` names it.

    Raises:
        UserError: For a backend that torch does not have.
    """
    known = ["eager", "aot_eager", *torch.compiler.list_backends()]
    if backend not in known:
        raise UserError(f"the backbone's compile is '{backend}'; torch has {', '.join(known)}")
    forward = _forward(backend)
    for block in blocks:
        block.forward = MethodType(forward, block)


def has_compiled(model: nn.Module) -> bool:
    """Whether :func:`compile_blocks_` has had a part of a model."""
    own = (vars(module).get("forward") for module in model.modules())
    return any(getattr(method, "__func__", None) in _FORWARDS for method in own)


_FORWARDS: list[Callable[..., Tensor]] = []


@lru_cache
def _forward(backend: str) -> Callable[..., Tensor]:
    def forward(block: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        # The shapes of evaluation are anybody's, and a compilation takes longer than most.
        # For CLS alone a block has little that could be fused, and it would be one graph more.
        whole = block.training and not kwargs.get("cls_only", False)
        run = _compiled(backend) if whole else _plain
        return run(block, *args, **kwargs)

    _FORWARDS.append(forward)
    return forward


@lru_cache
def _compiled(backend: str) -> Callable[..., Tensor]:
    if backend == "inductor":
        _check_inductor()
    # Beyond its limit torch would silently go on without a compiled graph.
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, _GRAPHS)
    return torch.compile(_plain, backend=backend, dynamic=False, fullgraph=True)


def _plain(block: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
    return type(block).forward(block, *args, **kwargs)


def _check_inductor() -> None:
    if torch.cuda.is_available():
        what = "Triton" if importlib.util.find_spec("triton") is None else None
    else:
        compiler = os.environ.get("CXX", "g++")
        what = None if shutil.which(compiler) else f"a C++ compiler ({compiler})"
    if what is not None:
        raise UserError(
            f"the backbone's compile needs {what}, which is not here: install it, or leave "
            "--compile (model.backbone.compile) out"
        )
