"""ONNX of the backbone, for any number of images at once."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from msn_mm.convert.files import new_file
from msn_mm.convert.format import Converted, load_trunk
from msn_mm.convert.onnx_graph import NEEDED, check_exportable, differences, write_graph
from msn_mm.convert.writer import WRITERS, Writer, Written
from msn_mm.errors import UserError

_NEEDED = NEEDED
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
        trunk = load_trunk(converted, converted.format).float()
        size = int(getattr(converted.architecture, "image_size", 224))
        channels = int(getattr(converted.architecture, "channels", 3))
        check_exportable(trunk, _NEEDED)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, channels, size, size, generator=generator)
        told = {"mean": list(converted.mean), "std": list(converted.std), "from": converted.format}
        with new_file(destination) as file:
            text = {key: json.dumps(value) for key, value in told.items()}
            write_graph(_Backbone(trunk).eval(), images, ["features"], file, text)
            notes = _check(trunk, images, file)
        left_out = [f"classifier.{key}" for key in converted.classifier]
        return Written(
            destination,
            f"onnxruntime.InferenceSession({str(destination)!r}).run(None, {{'images': images}})",
            left_out + list(converted.extras),
            [f"images are {size} x {size} pixels, in any number", *notes],
        )


def _check(trunk: nn.Module, images: Tensor, file: Path) -> list[str]:
    """Compare with torch on one image and on two; return what could not be checked."""
    found = differences(trunk, (images[:1], images), file, relative=True)
    if found is None:
        return ["not compared with torch, because onnxruntime is not installed"]
    if not found[0] < _TOLERANCE:
        raise UserError(
            f"onnxruntime's features differ from torch's by {found[0]:.1e} relative; nothing "
            "was written"
        )
    return []
