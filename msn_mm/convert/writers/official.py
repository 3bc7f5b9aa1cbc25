"""The layout of the released MSN files."""

from __future__ import annotations

from pathlib import Path

import torch

from msn_mm.convert.files import new_file
from msn_mm.convert.format import Converted
from msn_mm.convert.formats.msn_released import HEAD, PROJECTOR, PROTOTYPES, TARGET
from msn_mm.convert.writer import WRITERS, Writer, Written, plain_vit, resampling_note

_LAYERS = {place: layer for layer, place in PROJECTOR.items()}


@WRITERS.register_module()
class OfficialWriter(Writer):
    """``target_encoder`` with ``module.`` before each name, and ``prototypes``.

    The released code loads its evaluations from ``target_encoder``.
    """

    name = "official"
    suffix = ".pth.tar"

    def write(self, converted: Converted, destination: Path) -> Written:
        """Write trunk, projector and prototypes."""
        architecture = plain_vit(converted, self.name)
        target = {f"module.{k.removeprefix('vit.')}": v for k, v in converted.trunk.items()}
        left_out = [f"classifier.{k}" for k in converted.classifier]
        content: dict[str, object] = {TARGET: target, "epoch": 0}
        for name, value in converted.extras.items():
            _, _, rest = name.partition("projector.")
            place, _, kind = rest.partition(".")
            if name == PROTOTYPES:
                content[PROTOTYPES] = value
            elif place.isdigit() and int(place) in _LAYERS:
                target[f"module.{HEAD}{_LAYERS[int(place)]}.{kind}"] = value
            else:
                left_out.append(name)
        with new_file(destination) as file:
            torch.save(content, file)
        return Written(
            destination,
            f"torch.load({str(destination)!r})[{TARGET!r}]",
            left_out,
            resampling_note(architecture),
        )
