"""A file for ``timm.create_model(..., checkpoint_path=...)``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from msn_mm.convert.architecture import ViTArchitecture
from msn_mm.convert.files import new_file, save_tensors
from msn_mm.convert.format import Converted
from msn_mm.convert.formats.timm_vit import METADATA_KEY
from msn_mm.convert.writer import WRITERS, Writer, Written
from msn_mm.errors import UserError

# Names that say most of the published sizes already; arguments say the rest.
_MODELS = {
    (192, 12, 3): "vit_tiny_patch16_224",
    (384, 12, 6): "vit_small_patch16_224",
    (768, 12, 12): "vit_base_patch16_224",
    (1024, 24, 16): "vit_large_patch16_224",
}


@WRITERS.register_module()
class TimmWriter(Writer):
    """timm's own names, with the classifier where there is one, in safetensors.

    Architecture and normalisation lie in the metadata, so that the file comes
    back as it was.
    """

    name = "timm"
    suffix = ".safetensors"

    def write(self, converted: Converted, destination: Path) -> Written:
        """Write trunk and classifier."""
        architecture = converted.architecture
        if not isinstance(architecture, ViTArchitecture):
            raise UserError(
                f"'{self.name}' is written of ViTs only, not a {architecture.describe()}"
            )
        head = converted.classifier if "weight" in converted.classifier else {}
        tensors = {key.removeprefix("vit."): value for key, value in converted.trunk.items()}
        for key, value in head.items():
            tensors[f"fc_{key}" if key.startswith("norm.") else f"head.{key}"] = value
        told = {
            "architecture": dataclasses.asdict(architecture),
            "pooling": converted.pooling,
            "mean": list(converted.mean),
            "std": list(converted.std),
        }
        with new_file(destination) as file:
            save_tensors(tensors, file, {METADATA_KEY: json.dumps(told)})
        left_out = [f"classifier.{key}" for key in converted.classifier if not head]
        return Written(
            destination,
            _create_model(architecture, converted, destination),
            left_out + list(converted.extras),
            _notes(architecture),
        )


class _Code(str):
    """An argument that is code already."""

    def __repr__(self) -> str:
        return str(self)


def _create_model(architecture: ViTArchitecture, converted: Converted, path: Path) -> str:
    """Return the line of code that builds the model and loads the file."""
    key = (architecture.width, architecture.depth, architecture.heads)
    name = architecture.options.get("name") or _MODELS.get(key, "vit_small_patch16_224")
    arguments: dict[str, Any] = {}
    if key not in _MODELS:
        arguments = dict(embed_dim=key[0], depth=key[1], num_heads=key[2])
    if architecture.patch != 16:
        arguments["patch_size"] = architecture.patch
    if architecture.image_size != 224:
        arguments["img_size"] = architecture.image_size
    if architecture.channels != 3:
        arguments["in_chans"] = architecture.channels
    arguments |= {k: v for k, v in architecture.options.items() if k not in ("name", "resampling")}
    head = converted.classifier
    arguments["num_classes"] = len(head["weight"]) if "weight" in head else 0
    if converted.pooling == "mean" and arguments["num_classes"]:
        has_norm = "norm.weight" in head
        arguments |= dict(global_pool="avg", fc_norm=has_norm, final_norm=True)
    epsilon = arguments.pop("norm_eps", None)
    if epsilon is not None:
        arguments["norm_layer"] = _Code(f"functools.partial(torch.nn.LayerNorm, eps={epsilon})")
    words = [repr(name), *(f"{k}={v!r}" for k, v in arguments.items())]
    return f"timm.create_model({', '.join(words)}, checkpoint_path={str(path)!r})"


def _notes(architecture: ViTArchitecture) -> list[str]:
    if architecture.resampling == "timm":
        return []
    return [
        f"features at other sizes than {architecture.image_size} differ in timm: it resamples "
        f"positions in another way than the original ('{architecture.resampling}')"
    ]
