"""A module as an ONNX file, for any number of images at once, and its comparison with torch."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from msn_mm.errors import UserError

NEEDED = ("onnx", "onnxscript")


def check_exportable(module: nn.Module, needed: Sequence[str] = NEEDED) -> None:
    """Refuse a module that cannot become one ONNX file here.

    Raises:
        UserError: onnx or onnxscript is missing, or the weights are too many.
    """
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"writing ONNX needs {' and '.join(missing)}: pip install onnx onnxscript")
    weights = sum(p.numel() for p in module.parameters())
    if 4 * weights >= 2**31:
        raise UserError(
            f"one ONNX file holds less than 2 GiB, and this model has {weights:,} weights"
        )


def write_graph(
    module: nn.Module,
    images: Tensor,
    outputs: Sequence[str],
    file: Path,
    told: Mapping[str, str],
) -> None:
    """Write the graph of a module with all its weights in one file.

    Args:
        module: From one batch of images to one tensor or several, in evaluation mode.
        images: ``(B, ...)``, B >= 2; the first dimension stays free.
        outputs: Names of what the module returns.
        file: Where to.
        told: Goes into the metadata.
    """
    import onnx

    batch = torch.export.Dim("batch", min=1, max=2**16)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                module,
                (images,),
                input_names=["images"],
                output_names=list(outputs),
                dynamic_shapes=({0: batch},),
                dynamo=True,
                verbose=False,
            )
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
    model = program.model_proto
    for key, value in told.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString())


def differences(
    module: nn.Module, batches: Sequence[Tensor], file: Path, relative: bool = False
) -> list[float] | None:
    """Return how far onnxruntime is from torch, at most, for each output.

    Args:
        module: What was written.
        batches: Images to compare on.
        file: The ONNX file.
        relative: To the largest number of the output, instead of absolute.

    Returns:
        ``None`` when onnxruntime is not installed.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found: list[list[float]] = []
    for batch in batches:
        with torch.no_grad():
            wanted = module(batch)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        got = session.run(None, {"images": batch.numpy()})
        found.append(
            [
                float((torch.from_numpy(a) - b).abs().max() / (b.abs().max() if relative else 1.0))
                for a, b in zip(got, wanted, strict=True)
            ]
        )
    return [max(values) for values in zip(*found, strict=True)]
