"""A predictor as one ONNX file: pixels in, probabilities and features out.

Legend: B images, C channels, S side, D width, K classes.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from msn_mm.convert.files import new_file
from msn_mm.convert.onnx_graph import check_exportable, differences, write_graph
from msn_mm.errors import UserError
from msn_mm.few_labels.predictor import Predictor
from msn_mm.models.readout import can_mask, represent

OUTPUTS = ("probabilities", "features")
# Largest difference between onnxruntime and torch that a file may have: of
# probabilities, and of features of unit norm.
_TOLERANCE = 1e-5


class PredictorGraph(nn.Module):
    """The whole way of an image as one module.

    Args:
        predictor: What it computes.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        content = predictor.content
        encoder = predictor.encoder
        self.trunk = encoder.trunk
        about = encoder.description()
        self.mean: Tensor
        self.std: Tensor
        self.weights: Tensor
        shape = (1, encoder.in_channels, 1, 1)
        self.register_buffer("mean", torch.tensor(about["mean"]).view(shape))
        self.register_buffer("std", torch.tensor(about["std"]).view(shape))
        self.register_buffer("weights", (content.weights / content.temperature).float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 ``(B, C, S, S)`` -> probabilities ``(B, K)``, features ``(B, D)`` of unit norm."""
        pixels = (images.float() * (1 / 255) - self.mean) / self.std
        # A ResNet gives its representation itself; looking at how many images there
        # are, as represent does, would fix their number in the graph.
        rows = represent(self.trunk, pixels) if can_mask(self.trunk) else self.trunk(pixels)
        rows = functional.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1)
        return (rows @ self.weights).softmax(dim=1), rows


def write_onnx(predictor: Predictor, destination: Path) -> list[str]:
    """Write the file, whole or not at all.

    ``images``: uint8 ``(batch, C, S, S)``, through the view that the metadata
    tell, not normalised. Classes, view, paths of the labelled images and the
    settings of the fit lie in the metadata as JSON.

    Args:
        predictor: On the host.
        destination: A file that ends in ``.onnx``.

    Returns:
        What a user should know, one sentence each.

    Raises:
        UserError: A package is missing, the model is too large for one file,
            onnxruntime computes other numbers, or the place cannot be written.
    """
    graph = PredictorGraph(predictor).eval()
    check_exportable(graph)
    content = predictor.content
    side = content.view.crop
    assert side is not None  # its file was checked
    generator = torch.Generator().manual_seed(0)
    shape = (3, content.view.channels, side, side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    told = {
        "classes": list(content.classes),
        "view": content.view.settings(),
        "labels": content.labels.tolist(),
        "paths": list(content.paths),
        "about": dict(content.about),
    }
    text = {key: json.dumps(value) for key, value in told.items()}
    try:
        with new_file(destination) as file:
            write_graph(graph, images, OUTPUTS, file, text)
            # Blank images too: what is divided by their spread is nearly nothing.
            batches = [images[:1], images, torch.full_like(images, 255)]
            found = differences(graph, batches, file)
            for name, difference in zip(OUTPUTS, found or (), strict=bool(found)):
                if not difference < _TOLERANCE:
                    raise UserError(
                        f"onnxruntime's {name} differ from torch's by {difference:.1e}; nothing "
                        "was written"
                    )
    except OSError as error:
        raise UserError(f"cannot write {destination}: {error.strerror or error}") from error
    notes = [f"images: uint8 (batch, {shape[1]}, {side}, {side}), in any number"]
    if found is None:
        notes.append("not compared with torch, because onnxruntime is not installed")
    return notes
