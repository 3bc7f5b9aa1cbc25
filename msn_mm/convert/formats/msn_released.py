"""The released MSN checkpoints: ``target_encoder`` and ``prototypes``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint, strip_prefixes
from msn_mm.convert.vit import vit_architecture
from msn_mm.errors import UserError

# Layers of the projection head and their places in ours.
PROJECTOR = {"fc1": 0, "bn1": 1, "fc2": 3, "bn2": 4, "fc3": 6}
TARGET, ONLINE, PROTOTYPES, HEAD = "target_encoder", "encoder", "prototypes", "fc."


@FORMATS.register_module()
class ReleasedMSN(Format):
    """Files of the released training: the target network is the representation.

    The trunk has timm's names; its head lies in ``fc``. Positions are resampled
    by scale factor without antialiasing.
    """

    name = "msn"
    priority = 50
    verified = (
        "facebookresearch/msn src/msn_train.py and src/deit.py at "
        "db0d57220a91e4b6f0e5264c32d8b046594c5e74; huggingface/transformers "
        "src/transformers/models/vit_msn/convert_msn_to_pytorch.py at "
        "003875d501b6650510da1aa5cb5875724d1ffd5c"
    )

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether there is a whole ViT in ``target_encoder`` or ``encoder``."""
        return any(_is_vit(_network(raw, name)) for name in (TARGET, ONLINE))

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Take trunk and projector of the target network, and the prototypes."""
        chosen = TARGET if _is_vit(_network(raw, TARGET)) else ONLINE
        state = _network(raw, chosen)
        trunk = {f"vit.{k}": v for k, v in state.items() if not k.startswith(HEAD)}
        extras = {
            f"projector.{_projector_name(k, raw.source)}": v
            for k, v in state.items()
            if k.startswith(HEAD)
        }
        missing = [] if chosen == TARGET else [TARGET]
        prototypes = raw.content.get(PROTOTYPES)
        if isinstance(prototypes, Tensor):
            extras["prototypes"] = prototypes
        else:
            missing.append(PROTOTYPES)
        if not any(k.startswith(HEAD) for k in state):
            missing.append(f"{chosen}.{HEAD.rstrip('.')}")
        other = ONLINE if chosen == TARGET else TARGET
        bare = {k.removeprefix("vit."): v for k, v in trunk.items()}
        return Converted(
            format=self.name,
            architecture=vit_architecture(bare, arch, raw.source),
            trunk=trunk,
            extras=extras,
            used=len(trunk) + len(extras),
            ignored=[f"{other}.{k}" for k in raw.tensors(other)],
            missing=missing,
        )


def _network(raw: RawCheckpoint, name: str) -> dict[str, Tensor]:
    return strip_prefixes(raw.tensors(name), ("module.",))


def _is_vit(state: Mapping[str, Tensor]) -> bool:
    return {"cls_token", "pos_embed", "blocks.0.attn.qkv.weight"} <= set(state)


def _projector_name(key: str, source: str) -> str:
    layer, _, rest = key.removeprefix(HEAD).partition(".")
    if layer not in PROJECTOR:
        raise UserError(f"'{source}' has '{key}', which MSN's projection head does not have")
    return f"{PROJECTOR[layer]}.{rest}"
