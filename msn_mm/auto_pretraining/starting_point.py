"""The encoder of a checkpoint that a training is to go on from."""

from __future__ import annotations

from msn_mm.auto_pretraining.settings import Start
from msn_mm.convert.architecture import ViTArchitecture
from msn_mm.convert.format import convert
from msn_mm.convert.source import read_source
from msn_mm.engine.checkpointing import checkpoint_file
from msn_mm.errors import UserError


def read_start(source: str) -> Start:
    """Read what a checkpoint of any known format says of its encoder and head.

    Args:
        source: A file, a Hugging Face directory, the directory of a training or an address.

    Raises:
        UserError: It cannot be read, or its encoder is no ViT.
    """
    source, _ = checkpoint_file(source)
    converted = convert(read_source(source))
    architecture = converted.architecture
    if not isinstance(architecture, ViTArchitecture):
        raise UserError(
            f"--from: '{source}' holds a {architecture.describe()}, and MSN masks the patches of a "
            "ViT: give a ViT's checkpoint, or leave --from out"
        )
    hidden = converted.extras.get("projector.0.weight")
    prototypes = converted.extras.get("prototypes")
    head = None
    if hidden is not None and prototypes is not None:
        head = (hidden.shape[0], prototypes.shape[1], prototypes.shape[0])
    return Start(
        name=source,
        described=architecture.describe(),
        backbone=architecture.config(),
        width=architecture.width,
        patch=architecture.patch,
        side=architecture.image_size,
        channels=architecture.channels,
        mean=tuple(round(255 * value, 3) for value in converted.mean),
        std=tuple(round(255 * value, 3) for value in converted.std),
        head=head,
    )
