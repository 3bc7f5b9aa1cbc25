"""Our own file: safetensors that say themselves how the model is built."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from msn_mm.convert.architecture import ViTArchitecture
from msn_mm.convert.files import new_file, save_tensors
from msn_mm.convert.format import Converted
from msn_mm.convert.formats.own import METADATA_KEY
from msn_mm.convert.resnet import ResNetArchitecture
from msn_mm.convert.writer import WRITERS, Writer, Written
from msn_mm.datasets.pixel_window import window_setting
from msn_mm.errors import UserError


@WRITERS.register_module()
class OwnWriter(Writer):
    """Trunk below ``backbone.``, head below ``head.``, classifier below ``classifier.``.

    Architecture and normalisation lie in the file's metadata.
    """

    name = "msn_mm"
    suffix = ".safetensors"
    holds_window = True

    def write(self, converted: Converted, destination: Path) -> Written:
        """Write one file; nothing is left out."""
        tensors, metadata = own_content(converted)
        with new_file(destination) as file:
            save_tensors(tensors, file, metadata)
        return Written(destination, f"msn_mm.load_backbone({str(destination)!r})")


def own_content(converted: Converted) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of our own file and the metadata that say how to build the model.

    Raises:
        UserError: The trunk is of another kind than ours.
    """
    architecture = converted.architecture
    if not isinstance(architecture, ViTArchitecture | ResNetArchitecture):
        raise UserError(f"'{OwnWriter.name}' does not hold a {architecture.describe()}")
    tensors = {
        **{f"backbone.{k}": v for k, v in converted.trunk.items()},
        **{f"head.{k}": v for k, v in converted.extras.items()},
        **{f"classifier.{k}": v for k, v in converted.classifier.items()},
    }
    told = {
        "backbone": architecture.config(),
        "mean": list(converted.mean),
        "std": list(converted.std),
        "pooling": converted.pooling,
        "from": converted.format,
        "settings": converted.settings,
        **window_setting(converted.window),
    }
    return tensors, {METADATA_KEY: json.dumps(told)}
