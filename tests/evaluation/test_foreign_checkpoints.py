"""Evaluation of checkpoints that other code wrote, by a config of the backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from convert.released import released
from convert.vits import ARCH, DEPTH, HEADS, PATCH, SIZE, WIDTH, images, random_vit
from mmengine.config import Config
from safetensors.torch import save_file

from msn_mm.convert.format import RawCheckpoint, convert, load_trunk
from msn_mm.convert.writer import write
from msn_mm.errors import UserError
from msn_mm.evaluation.checkpoint import read_weights
from msn_mm.evaluation.encoder import build_encoder

VIT = dict(
    type="MaskedViT", img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS
)


def _encode(checkpoint: Path, **settings: int) -> torch.Tensor:
    pixels = torch.randint(
        0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return build_encoder(Config(dict(model={**VIT, **settings})), checkpoint, device="cpu")(pixels)


def test_every_form_of_one_checkpoint_gives_the_same_features(tmp_path: Path) -> None:
    target = random_vit()
    content = released(target)
    bare = {f"vit.{k}": v for k, v in target.state_dict().items()}
    torch.save({"state_dict": bare}, tmp_path / "trunk.pth")
    wanted = _encode(tmp_path / "trunk.pth")
    assert wanted.std() > 0

    torch.save(content, tmp_path / "released.pth.tar")
    torch.save(content, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    save_file({k: v.clone() for k, v in bare.items()}, tmp_path / "trunk.safetensors")
    converted = convert(RawCheckpoint("x", content), arch=ARCH)
    write(converted, tmp_path / "own.safetensors", "msn_mm")
    write(converted, tmp_path / "hf", "hf")
    for name in ("released.pth.tar", "old.pth.tar", "trunk.safetensors", "own.safetensors", "hf"):
        assert torch.equal(_encode(tmp_path / name), wanted), name
    assert torch.equal(
        read_weights(tmp_path / "trunk.safetensors")["vit.pos_embed"], bare["vit.pos_embed"]
    )


def test_a_checkpoint_of_another_architecture_is_named(tmp_path: Path) -> None:
    torch.save(released(random_vit()), tmp_path / "a.pth.tar")
    with pytest.raises(UserError, match=r"belongs to another model.* is .* there and .* here"):
        _encode(tmp_path / "a.pth.tar", embed_dim=48)
    torch.save({"transformer.wte.weight": torch.zeros(2)}, tmp_path / "gpt.bin")
    with pytest.raises(UserError, match="belongs to another model"):
        _encode(tmp_path / "gpt.bin")
    torch.save({"model": {"transformer.wte.weight": torch.zeros(2)}}, tmp_path / "gpt.pth")
    with pytest.raises(UserError, match="no checkpoint of an image encoder"):
        _encode(tmp_path / "gpt.pth")


def test_positions_and_normalisation_are_those_of_the_weights(tmp_path: Path) -> None:
    found = convert(RawCheckpoint("x", released(random_vit())), arch=ARCH)
    found.architecture = replace(found.architecture, resampling="dino")  # type: ignore[type-var]
    found.mean, found.std = (0.5, 0.25, 0.5), (0.5, 0.5, 0.25)
    path = write(found, tmp_path / "own.safetensors", "msn_mm").path
    pixels = images(64)
    wanted = load_trunk(found, "x")(pixels)
    given = build_encoder(Config(dict(model=VIT)), path, device="cpu")
    named = build_encoder(Config(dict(model=VIT, checkpoint=str(path))), None, device="cpu")
    for encoder in (given, named):
        assert torch.equal(encoder.trunk(pixels), wanted)
        assert encoder.description()["mean"] == [0.5, 0.25, 0.5]
        assert encoder.description()["std"] == [0.5, 0.5, 0.25]
