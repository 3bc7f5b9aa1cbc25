"""The key layout of the released MSN files.

Trunk and head below ``target_encoder`` as huggingface/transformers
src/transformers/models/vit_msn/convert_msn_to_pytorch.py (commit
003875d501b6650510da1aa5cb5875724d1ffd5c) renames or drops them, and the other
entries as facebookresearch/msn src/msn_train.py (commit
db0d57220a91e4b6f0e5264c32d8b046594c5e74) saves them.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from convert.vits import DEPTH, WIDTH, random_vit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

HIDDEN, OUTPUT, PROTOTYPES = 20, 16, 10

# What tells the groups of the optimizer apart.
MARKS: list[dict[str, Any]] = [
    {},
    {"WD_exclude": True},
    {"WD_exclude": True, "LARS_exclude": True},
]
TRUNK_KEYS = [
    "cls_token",
    "pos_embed",
    "patch_embed.proj.weight",
    "patch_embed.proj.bias",
    "norm.weight",
    "norm.bias",
    *(
        f"blocks.{i}.{layer}.{kind}"
        for i in range(DEPTH)
        for layer in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        for kind in ("weight", "bias")
    ),
]
_BATCH_NORM = {
    "weight": (HIDDEN,),
    "bias": (HIDDEN,),
    "running_mean": (HIDDEN,),
    "running_var": (HIDDEN,),
    "num_batches_tracked": (),
}
HEAD_SHAPES: dict[str, tuple[int, ...]] = {
    "fc.fc1.weight": (HIDDEN, WIDTH),
    "fc.fc1.bias": (HIDDEN,),
    **{f"fc.bn1.{k}": v for k, v in _BATCH_NORM.items()},
    "fc.fc2.weight": (HIDDEN, HIDDEN),
    "fc.fc2.bias": (HIDDEN,),
    **{f"fc.bn2.{k}": v for k, v in _BATCH_NORM.items()},
    "fc.fc3.weight": (OUTPUT, HIDDEN),
    "fc.fc3.bias": (OUTPUT,),
}


def network(model: VisionTransformer, seed: int, prefix: str = "module.") -> dict[str, Tensor]:
    """One network of a released file: the trunk's weights, and a random head."""
    generator = torch.Generator().manual_seed(seed)
    state = model.state_dict()
    assert set(state) == set(TRUNK_KEYS)
    head = {
        name: torch.tensor(7)
        if name.endswith("tracked")
        else torch.rand(shape, generator=generator) + 0.1
        for name, shape in HEAD_SHAPES.items()
    }
    return {prefix + k: v.clone() for k, v in {**state, **head}.items()}


def adam_by_name(model: VisionTransformer) -> tuple[dict[str, Any], dict[str, Any]]:
    """A real step of AdamW, grouped as ``init_opt`` of the cited file does it.

    Returns:
        The optimizer's state dict, and the states by the parameters' names.
    """
    encoder = copy.deepcopy(model)
    layers = (
        ("fc1", nn.Linear(WIDTH, HIDDEN)),
        ("bn1", nn.BatchNorm1d(HIDDEN)),
        ("fc2", nn.Linear(HIDDEN, HIDDEN)),
        ("bn2", nn.BatchNorm1d(HIDDEN)),
        ("fc3", nn.Linear(HIDDEN, OUTPUT)),
    )
    encoder.fc = nn.Sequential(OrderedDict(layers))
    named = dict(encoder.named_parameters())
    flat = [n for n, p in named.items() if "bias" in n or "bn" in n or p.ndim == 1]
    groups = [[n for n in named if n not in flat], flat, ["prototypes"]]
    named["prototypes"] = nn.Parameter(torch.zeros(PROTOTYPES, OUTPUT))
    optimizer = torch.optim.AdamW(
        [
            {"params": [named[n] for n in group], "weight_decay": 0.1 * i, **MARKS[i]}
            for i, group in enumerate(groups)
        ]
    )
    for parameter in named.values():
        parameter.grad = torch.randn(parameter.shape)
    optimizer.step()
    return optimizer.state_dict(), {n: dict(optimizer.state[p]) for n, p in named.items()}


def released(target: VisionTransformer, prefix: str = "module.") -> dict[str, Any]:
    """A whole released file around a target network."""
    online = random_vit(seed=99, in_chans=target.patch_embed.proj.in_channels)
    prototypes = torch.randn(PROTOTYPES, OUTPUT)
    return {
        "encoder": network(online, 98, prefix),
        "opt": adam_by_name(online)[0],
        "prototypes": prototypes,
        "target_encoder": network(target, 5, prefix),
        "epoch": 800,
        "loss": 1.5,
        "batch_size": 16,
        "world_size": 64,
        "lr": 0.001,
        "temperature": 0.1,
    }
