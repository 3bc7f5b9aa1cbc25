"""ONNX of the backbone, for any number of images at once."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from msn_mm.convert.files import new_file
from msn_mm.convert.format import Converted, load_trunk
from msn_mm.convert.writer import WRITERS, Writer, Written
from msn_mm.errors import UserError

_NEEDED = ("onnx", "onnxscript")
# Largest relative difference between onnxruntime and torch that a file may have.
_TOLERANCE = 1e-4


class _Backbone(nn.Module):
    """The trunk with images for its only argument."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images)


@WRITERS.register_module()
class OnnxWriter(Writer):
    """``images (batch, C, H, W)``, normalised, to ``features (batch, D)``.

    The batch is free and the image size is the one that the model's positions
    belong to. The normalisation lies in the metadata. Where onnxruntime is
    installed, a file whose numbers differ from torch's is not written.
    """

    name = "onnx"
    suffix = ".onnx"

    def write(self, converted: Converted, destination: Path) -> Written:
        """Write the graph with all its weights in one file.

        Raises:
            UserError: onnx or onnxscript is missing, the weights are too many
                for one file, or onnxruntime computes other numbers.
        """
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"writing ONNX needs {' and '.join(missing)}: pip install onnx onnxscript"
            )
        trunk = load_trunk(converted, converted.format).float()
        size = int(getattr(converted.architecture, "image_size", 224))
        channels = int(getattr(converted.architecture, "channels", 3))
        weights = sum(p.numel() for p in trunk.parameters())
        if 4 * weights >= 2**31:
            raise UserError(
                f"one ONNX file holds less than 2 GiB, and this model has {weights:,} weights"
            )
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, channels, size, size, generator=generator)
        told = {"mean": list(converted.mean), "std": list(converted.std), "from": converted.format}
        with new_file(destination) as file:
            _export(trunk, images, file, {key: json.dumps(value) for key, value in told.items()})
            notes = _check(trunk, images, file)
        left_out = [f"classifier.{key}" for key in converted.classifier]
        return Written(
            destination,
            f"onnxruntime.InferenceSession({str(destination)!r}).run(None, {{'images': images}})",
            left_out + list(converted.extras),
            [f"images are {size} x {size} pixels, in any number", *notes],
        )


def _export(trunk: nn.Module, images: Tensor, file: Path, told: dict[str, str]) -> None:
    import onnx

    batch = torch.export.Dim("batch", min=1, max=2**16)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                _Backbone(trunk).eval(),
                (images,),
                input_names=["images"],
                output_names=["features"],
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


def _check(trunk: nn.Module, images: Tensor, file: Path) -> list[str]:
    """Compare with torch on one image and on two; return what could not be checked."""
    if importlib.util.find_spec("onnxruntime") is None:
        return ["not compared with torch, because onnxruntime is not installed"]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for batch in (images[:1], images):
        with torch.no_grad():
            expected = trunk(batch)
        got = torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])
        difference = float((got - expected).abs().max() / expected.abs().max())
        if not difference < _TOLERANCE:
            raise UserError(
                f"onnxruntime's features differ from torch's by {difference:.1e} relative; nothing "
                "was written"
            )
    return []
