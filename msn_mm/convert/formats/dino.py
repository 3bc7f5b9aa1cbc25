"""DINO: backbones, and training checkpoints with teacher and student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint, strip_prefixes
from msn_mm.convert.formats.timm_vit import says_timm
from msn_mm.convert.timm_names import is_plain_vit, is_vit, read_vit, within
from msn_mm.convert.vit import settings

NETWORKS = ("teacher", "student")


def backbone_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone of a teacher or student: the part below ``backbone.``."""
    return within(strip_prefixes(state, ["module."]), "backbone.")


def pick_network(
    raw: RawCheckpoint, arch: Mapping[str, Any]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return a network's backbone, and the names of the file's other tensors.

    A file without teacher and student is a backbone itself.

    Raises:
        UserError: The file lacks the wanted network.
    """
    there = [name for name in NETWORKS if raw.tensors(name)]
    wanted = settings(arch, there).get("network") or (there[0] if there else None)
    if wanted is None:
        return strip_prefixes(raw.tensors(), ["module.", "backbone."]), []
    left = [
        f"{name}.{key}"
        for name in there
        for key in raw.tensors(name)
        if name != wanted or ".backbone." not in f".{key}"
    ]
    return backbone_of(raw.tensors(wanted)), left


@FORMATS.register_module()
class Dino(Format):
    """DINO's ViTs (Caron et al. 2021, https://arxiv.org/abs/2104.14294).

    Reads the teacher unless ``arch`` has ``network="student"``. A headless file
    of timm's that does not say so itself has the same names; name the format
    ``timm`` for such a file where images of another size matter.
    """

    name = "dino"
    verified = (
        "facebookresearch/dino vision_transformer.py, main_dino.py, eval_linear.py "
        "@ 04c0ad957c9fd04cced6d703668bc049586d1d21, hubconf.py "
        "@ 144f70567a6ff853b9ea44503ba37fdcf8ca41fb"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether it holds a teacher or student with a plain ViT, or is one."""
        if says_timm(raw):
            return False
        if is_plain_vit(strip_prefixes(raw.tensors(), ["module.", "backbone."])):
            return True
        return any(is_vit(backbone_of(raw.tensors(name))) for name in NETWORKS)

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read the backbone."""
        state, left = pick_network(raw, arch)
        return read_vit(self.name, raw, state, resampling="dino", arch=arch, ignored=left)
