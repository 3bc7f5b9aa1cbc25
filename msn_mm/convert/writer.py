"""What a checkpoint writer is: it puts the canonical form into another library's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.registry import Registry
from safetensors import SafetensorError

from msn_mm.convert.architecture import ViTArchitecture
from msn_mm.convert.format import Converted
from msn_mm.errors import UserError
from msn_mm.utils.paths import user_path

WRITERS = Registry("checkpoint writer", locations=["msn_mm.convert.writers"])


@dataclass
class Written:
    """What a writer did.

    Attributes:
        path: The file or directory.
        use: A line of code that loads it.
        left_out: Canonical names of tensors that the target has no place for.
        notes: What a user should know of the result, one sentence each.
    """

    path: Path
    use: str
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Writer:
    """One target; a subclass is registered by ``@WRITERS.register_module()``.

    Attributes:
        name: What users call it (``--to``).
        suffix: How its files end; empty for a directory.
        holds_window: Whether a file tells the range of pixel values that a model was shown.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    holds_window: ClassVar[bool] = False

    def write(self, converted: Converted, destination: Path) -> Written:
        """Write a checkpoint, whole or not at all.

        Args:
            converted: What to write.
            destination: File or directory, ending as ``suffix`` says.

        Raises:
            UserError: The target cannot hold this model.
        """
        raise NotImplementedError


def writers() -> dict[str, Writer]:
    """Return all writers by name."""
    WRITERS.import_from_location()
    found = [kind() for kind in WRITERS.module_dict.values()]
    return {writer.name: writer for writer in sorted(found, key=lambda writer: writer.name)}


def write(converted: Converted, destination: str | Path, to: str) -> Written:
    """Write a checkpoint for another library.

    Args:
        converted: From :func:`msn_mm.convert.format.convert`.
        destination: Where to.
        to: The writer's name.

    Raises:
        UserError: There is no such writer, or it cannot hold this model.
    """
    known = writers()
    if to not in known:
        raise UserError(f"no checkpoint can be written as '{to}'; there are {', '.join(known)}")
    path, suffix = user_path(destination, "destination"), known[to].suffix
    if suffix and (path.is_dir() or not path.name.endswith(suffix)):
        raise UserError(f"'{destination}' must be a file that ends in {suffix} for '{to}'")
    if not suffix and path.is_file():
        raise UserError(f"'{destination}' is a file; '{to}' is written to a directory")
    try:
        written = known[to].write(converted, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"'{destination}' cannot be written: {reason}") from error
    if converted.window is not None and not known[to].holds_window:
        written.notes.append(
            "the file has no place for the window of pixel values: map "
            f"{[list(pair) for pair in converted.window]} to 0-255 before anything else"
        )
    return written


def plain_vit(converted: Converted, target: str) -> ViTArchitecture:
    """Return the architecture of a ViT without extras, as the first ViT codes have it.

    Args:
        converted: What is to be written.
        target: The target, for the error message.

    Raises:
        UserError: It is something else: a ResNet, a ViT with registers, layer
            scale, another activation, ...
    """
    architecture = converted.architecture
    if not isinstance(architecture, ViTArchitecture):
        raise UserError(f"'{target}' holds ViTs only, not a {architecture.describe()}")
    extra = sorted(set(converted.trunk) - set(plain_vit_names(architecture.depth)))
    lacking = sorted(set(plain_vit_names(architecture.depth)) - set(converted.trunk))
    if extra or lacking:
        what = f"'{extra[0]}'" if extra else f"no '{lacking[0]}'"
        raise UserError(f"'{target}' holds plain ViTs only, and this one has {what}")
    with torch.device("meta"):
        vit: Any = architecture.build().vit
    if not isinstance(vit.blocks[0].mlp.act, torch.nn.GELU) or vit.norm.eps != 1e-6:
        raise UserError(f"'{target}' holds plain ViTs only: GELU, and norms with epsilon 1e-6")
    if vit.num_prefix_tokens != 1 or vit.no_embed_class:
        raise UserError(f"'{target}' holds plain ViTs only: a CLS token with a position, no other")
    return architecture


def plain_vit_names(depth: int) -> list[str]:
    """Return the canonical names of a plain ViT's weights."""
    layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    stems = ["patch_embed.proj", *(f"blocks.{i}.{x}" for i in range(depth) for x in layers), "norm"]
    kinds = ("weight", "bias")
    return ["vit.cls_token", "vit.pos_embed", *(f"vit.{s}.{k}" for s in stems for k in kinds)]


def resampling_note(architecture: ViTArchitecture) -> list[str]:
    """Warn where the target resamples positions by scale factor and the origin does not."""
    if architecture.resampling == "scale":
        return []
    return [
        f"features at other sizes than {architecture.image_size} differ: the target resamples "
        f"positions in another way than the original ('{architecture.resampling}')"
    ]
