"""The released MSN checkpoints: ``target_encoder`` and ``prototypes``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from msn_mm.convert.format import FORMATS, Converted, Format, RawCheckpoint, strip_prefixes
from msn_mm.convert.training_state import adam_states, group_settings, trainable
from msn_mm.convert.vit import settings, vit_architecture
from msn_mm.errors import UserError

# Layers of the projection head and their places in ours.
PROJECTOR = {"fc1": 0, "bn1": 1, "fc2": 3, "bn2": 4, "fc3": 6}
TARGET, ONLINE, PROTOTYPES, HEAD = "target_encoder", "encoder", "prototypes", "fc."
OPTIMIZER = "opt"
NETWORKS = {"target": TARGET, "online": ONLINE}


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
        """Take the target network, and of a training's file the online one and the optimizer.

        ``arch`` may say ``network="online"`` for that network as the trunk; the
        target is then ignored.
        """
        there = [name for name in NETWORKS if _is_vit(_network(raw, NETWORKS[name]))]
        chosen = NETWORKS[settings(arch, there).get("network") or there[0]]
        trunk, extras = _parts(_network(raw, chosen), raw.source)
        used = len(trunk) + len(extras)
        headless = [] if extras else [f"{chosen}.{HEAD.rstrip('.')}"]
        missing = [] if chosen == TARGET or "target" in there else [TARGET]
        prototypes = raw.content.get(PROTOTYPES)
        if isinstance(prototypes, Tensor):
            extras["prototypes"], used = prototypes, used + 1
        else:
            missing.append(PROTOTYPES)
        missing += headless
        ignored, plain = [], {}
        if chosen == TARGET and "online" in there:
            online = _online(raw)
            extras |= online
            used += sum(not name.startswith("optimizer.") for name in online)
            plain = {"optimizer": group_settings(raw.content.get(OPTIMIZER))}
            if OPTIMIZER in raw.content and not any(k.startswith("optimizer.") for k in online):
                ignored.append(OPTIMIZER)
        elif chosen == ONLINE:
            ignored += [f"{TARGET}.{k}" for k in raw.tensors(TARGET)]
        if isinstance(raw.content.get("epoch"), int):
            plain["epoch"] = raw.content["epoch"]
        bare = {k.removeprefix("vit."): v for k, v in trunk.items()}
        told = {k: v for k, v in arch.items() if k != "network"}
        return Converted(
            format=self.name,
            architecture=vit_architecture(bare, told, raw.source),
            trunk=trunk,
            extras=extras,
            settings=plain,
            used=used,
            ignored=ignored,
            missing=missing,
        )


def optimizer_groups(online: Iterable[str], ranks: Mapping[str, int]) -> list[list[str]]:
    """Sort the weights of the online network, and the prototypes, as the released code groups them.

    Args:
        online: Canonical names in the network's order, batch norm's statistics left out.
        ranks: Their numbers of dimensions.
    """
    names = list(online)
    # Of its names the batch norms' alone have "bn" in them.
    flat = [n for n in names if ranks[n] == 1 or "bias" in n]
    return [[n for n in names if n not in set(flat)], flat, [PROTOTYPES]]


def _parts(state: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return trunk and projector of a network by canonical names."""
    trunk = {f"vit.{k}": v for k, v in state.items() if not k.startswith(HEAD)}
    projector = {
        f"projector.{_projector_name(k, source)}": v for k, v in state.items() if k.startswith(HEAD)
    }
    return trunk, projector


def _online(raw: RawCheckpoint) -> dict[str, Tensor]:
    """Return the online network and the optimizer's state as extras."""
    trunk, projector = _parts(_network(raw, ONLINE), raw.source)
    network = {**trunk, **projector}
    weights = {**network, PROTOTYPES: raw.content.get(PROTOTYPES)}
    shapes = {k: v.shape for k, v in weights.items() if isinstance(v, Tensor)}
    groups = optimizer_groups(trainable(network), {k: len(v) for k, v in shapes.items()})
    states = {}
    if PROTOTYPES in shapes:
        states = adam_states(raw.content.get(OPTIMIZER), groups, shapes)
    return {
        **{f"online.{name}": value for name, value in network.items()},
        **{
            f"optimizer.{kind}.{name}": value
            for name, state in states.items()
            for kind, value in state.items()
        },
    }


def _network(raw: RawCheckpoint, name: str) -> dict[str, Tensor]:
    return strip_prefixes(raw.tensors(name), ("module.",))


def _is_vit(state: Mapping[str, Tensor]) -> bool:
    return {"cls_token", "pos_embed", "blocks.0.attn.qkv.weight"} <= set(state)


def _projector_name(key: str, source: str) -> str:
    layer, _, rest = key.removeprefix(HEAD).partition(".")
    if layer not in PROJECTOR:
        raise UserError(f"'{source}' has '{key}', which MSN's projection head does not have")
    return f"{PROJECTOR[layer]}.{rest}"
