"""A file for torchvision's and timm's ResNets."""

from __future__ import annotations

import json
from pathlib import Path

from msn_mm.convert.files import new_file, save_tensors
from msn_mm.convert.format import Converted
from msn_mm.convert.formats.torchvision_resnet import METADATA_KEY
from msn_mm.convert.resnet import ResNetArchitecture
from msn_mm.convert.writer import WRITERS, Writer, Written
from msn_mm.errors import UserError


@WRITERS.register_module()
class TorchvisionWriter(Writer):
    """torchvision's names, with the classifier as ``fc``, in safetensors.

    Stem, borders and normalisation lie in the metadata, so that the file comes
    back as it was.
    """

    name = "torchvision"
    suffix = ".safetensors"

    def write(self, converted: Converted, destination: Path) -> Written:
        """Write trunk and classifier."""
        architecture = converted.architecture
        if not isinstance(architecture, ResNetArchitecture):
            raise UserError(
                f"'{self.name}' is written of ResNets only, not a {architecture.describe()}"
            )
        head = {f"fc.{key}": value for key, value in converted.classifier.items()}
        told = dict(
            stem=architecture.stem,
            padding=architecture.padding,
            mean=converted.mean,
            std=converted.std,
        )
        with new_file(destination) as file:
            save_tensors({**converted.trunk, **head}, file, {METADATA_KEY: json.dumps(told)})
        notes = []
        usual = (architecture.base_channels, architecture.stem_channels, architecture.stem)
        if usual != (64, 64, "imagenet") or architecture.padding != "symmetric":
            notes.append("torchvision has no such stem, width or borders; msn_mm reads it back")
        return Written(
            destination,
            f"model.load_state_dict(safetensors.torch.load_file('{destination}'))",
            list(converted.extras),
            notes,
        )
