"""The published weights that the configs of the paper's rows name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from msn_mm.convert.format import RawCheckpoint, convert, formats
from msn_mm.convert.resnet import resnet_architecture, resnet_trunk
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.encoder import build_encoder
from msn_mm.evaluation.rows import read_rows
from msn_mm.registry import MODELS
from msn_mm.utils.config_files import config_directories

from .resnets import features, prefixed, small

FOLDER = config_directories()[0] / "eval" / "backbones"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
SHARED = Path(os.environ.get("MSN_MM_SHARED", FOLDER.parents[3] / "shared"))
# Parameters in millions and width of the encoder: timm's and torchvision's counts of the
# classifiers less their heads, DINO's "21M" and "85M"; RN200 (2x): 250M (arXiv 2006.07733).
SIZES = {
    "byol_rn200w2": (250, 4096),
    "dino_vitb16": (85.8, 768),
    "dino_vitb8": (85.8, 768),
    "dino_vits16": (21.7, 384),
    "dino_vits8": (21.7, 384),
    "ibot_vitb16": (85.8, 768),
    "ibot_vits16": (21.7, 384),
    "mae_vitb16": (85.8, 768),
    "mae_vith14": (630.8, 1280),
    "mae_vitl16": (303.3, 1024),
    "mocov3_vitb16": (85.8, 768),
    "msn_vitb16": (85.8, 768),
    "msn_vitb4": (87.5, 768),
    "msn_vitl16": (303.3, 1024),
    "msn_vitl7": (303.5, 1024),
    "msn_vits16": (21.7, 384),
    "simclr_rn101": (42.5, 2048),
    "supervised_rn50": (23.5, 2048),
}


def text(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text()


def test_every_row_is_there() -> None:
    assert set(SIZES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_the_published_one(name: str) -> None:
    cfg = load_config(f"eval/backbones/{name}")
    with torch.device("meta"):
        trunk = MODELS.build(cfg.model)
    millions, width = SIZES[name]
    found = sum(weight.numel() for weight in trunk.parameters()) / 1e6
    assert found == pytest.approx(millions, rel=0.004) and trunk.embed_dim == width
    if patch := re.search(r"_vit[sblh](\d+)$", name):
        assert (
            trunk.patch_size == (int(patch[1]),) * 2 and trunk.grid == (224 // int(patch[1]),) * 2
        )
        heads = {384: 6, 768: 12, 1024: 16, 1280: 16}
        assert trunk.vit.blocks[0].attn.num_heads == heads[width]


@pytest.mark.parametrize("name", NAMES)
def test_address_licence_and_their_source_are_told(name: str) -> None:
    entry = load_config(f"eval/backbones/{name}").checkpoint
    assert entry.source.startswith("https://") and entry.license
    assert set(entry) <= {"source", "license", "arch", "format", "sha256"}
    doc = text(name).split('"""')[1]
    assert "Address" in doc and "Licence" in doc
    assert re.search(r"\b[0-9a-f]{40}\b|torchvision \d", doc)
    assert f"--row configs/eval/backbones/{name}.py none" in doc


def test_addresses_are_those_of_the_libraries() -> None:
    """timm and torchvision name the same files."""

    def source(name: str) -> str:
        return load_config(f"eval/backbones/{name}").checkpoint.source

    for ours, theirs in {
        "dino_vits16": "vit_small_patch16_224.dino",
        "dino_vits8": "vit_small_patch8_224.dino",
        "dino_vitb16": "vit_base_patch16_224.dino",
        "dino_vitb8": "vit_base_patch8_224.dino",
        "mae_vitb16": "vit_base_patch16_224.mae",
        "mae_vitl16": "vit_large_patch16_224.mae",
        "mae_vith14": "vit_huge_patch14_224.mae",
    }.items():
        published = timm.get_pretrained_cfg(theirs)
        assert published is not None and source(ours) == published.url
        stated = load_config(f"eval/backbones/{ours}").checkpoint.license
        assert stated.lower() == published.license
    weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V1
    assert source("supervised_rn50") == weights.url


@pytest.mark.skipif(not (SHARED / "paper" / "tables.json").is_file(), reason="no tables here")
@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_the_papers(name: str) -> None:
    import json

    tables = json.loads((SHARED / "paper" / "tables.json").read_text())
    rows = tables["low_shot_images_per_class"]
    rows = {
        re.sub(r" \d+ep$", "", key): [few[0] for few in row.values()] for key, row in rows.items()
    }
    more = tables["table10_appendix_extreme_low_shot"]
    rows |= {key: list(row.values()) for key, row in more.items() if key != "MSN ViT-L/7"}
    kind, patch = re.fullmatch(r"\w+_(?:vit([sblh])(\d+)|rn.*)", name).groups()  # type: ignore[union-attr]
    method = {"dino": "DINO", "ibot": "iBOT", "mae": "MAE", "msn": "MSN", "mocov3": "MoCov3"}
    keys = {"simclr_rn101": "SimCLR RN101", "byol_rn200w2": "BYOL RN200 (2x)"}
    key = keys.get(name) or f"{method.get(name.split('_')[0])} ViT-{str(kind).upper()}/{patch}"
    if name == "msn_vitl16":
        assert str(tables["masking_ratio_one_percent"]["ViT-L/16"]["0.5"]) in text(name)
    elif name == "supervised_rn50":
        assert str(tables["table14_robustness"]["Supervised ResNet50"]["IN-C mCE"]) in text(name)
    else:
        one, two, five = rows[key]
        assert f"{one}, {two} and {five} % with 1, 2 and 5 labels" in text(name)


def test_the_weights_of_resnet_rows_fit() -> None:
    """What the files hold, by the shapes that torchvision and VISSL publish, at real size."""
    for name, layers in {"simclr_rn101": (3, 4, 23, 3), "supervised_rn50": (3, 4, 6, 3)}.items():
        with torch.device("meta"):
            own = MODELS.build(load_config(f"eval/backbones/{name}").model).state_dict()
            kind = torchvision.models.resnet.Bottleneck
            theirs = torchvision.models.ResNet(kind, list(layers)).state_dict()
        shapes = {key: value.shape for key, value in theirs.items() if not key.startswith("fc.")}
        assert {key: value.shape for key, value in own.items()} == shapes
    cfg = load_config("eval/backbones/byol_rn200w2")
    with torch.device("meta"):
        own = MODELS.build(cfg.model).state_dict()
    found = resnet_architecture(own, cfg.checkpoint.arch, "byol")
    assert resnet_trunk(own, found, "byol")[1] == []
    assert found.config().items() >= {"padding": "same", "stem_channels": 128}.items()


def tiny(path: Path, **checkpoint: Any) -> dict[str, Any]:
    layers = dict(layers=(1, 1, 1, 1), block="bottleneck")
    return dict(
        model=dict(type="PlainResNet", **layers), checkpoint=dict(source=str(path), **checkpoint)
    )


def test_an_encoder_has_the_published_weights(tmp_path: Path) -> None:
    original = small((1, 1, 1, 1))
    state = prefixed(original.state_dict(), "backbone.", "-")
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "mm.pth")
    cfg = tiny(tmp_path / "mm.pth", license="MIT")
    encoder = build_encoder(cfg, None, device="cpu")
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    expected = features(original)((images / 255 - mean) / std)
    assert (encoder(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
    # a checkpoint on the command line comes first
    other = nn.Module()
    other.backbone = MODELS.build(cfg["model"])
    torch.save({"state_dict": other.state_dict()}, tmp_path / "other.pth")
    chosen = build_encoder(cfg, tmp_path / "other.pth", device="cpu")
    assert torch.equal(chosen.trunk.conv1.weight, other.backbone.conv1.weight)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(source="nowhere.pth"), "nowhere.pth"),
        (dict(url="x"), "the config's checkpoint has no 'url'"),
        (dict(source=None), "names no source"),
        (dict(format="mocov3_resnet"), "known here"),
        (dict(format="jax"), "no checkpoint format 'jax'"),
        (dict(arch=dict(padding="odd")), "padding is 'odd'; give one of symmetric, same"),
    ],
)
def test_errors_are_one_line(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    torch.save(small((1, 1, 1, 1)).state_dict(), tmp_path / "some.pth")
    cfg = tiny(tmp_path / "some.pth")
    cfg["checkpoint"] |= change
    with pytest.raises(UserError) as error:
        build_encoder(cfg, None, device="cpu")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    torch.save(small((1, 2, 1, 1)).state_dict(), tmp_path / "some.pth")
    with pytest.raises(UserError, match="belongs to another model: it has 18 weights"):
        build_encoder(tiny(tmp_path / "some.pth"), None, device="cpu")


def test_a_row_with_published_weights_is_not_called_untrained() -> None:
    class Args:
        config, cfg_options, checkpoints, names = "msn_digits", None, ["none"], None
        row = (("eval/backbones/dino_vits16", "none"),)

    assert [row.name for row in read_rows(Args())] == ["msn_digits, untrained", "dino_vits16"]


def layout(name: str, state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The published file of a row, as the formats' own tests cite it."""
    method = name.split("_")[0]
    if method == "msn":
        return {"target_encoder": {f"module.{key}": value for key, value in state.items()}}
    if method == "mocov3":
        base = {f"module.base_encoder.{key}": value for key, value in state.items()}
        return {"arch": "vit_base", "state_dict": base}
    return {"mae": {"model": state}, "ibot": {"state_dict": state}}.get(method, state)


@pytest.mark.parametrize("name", [name for name in NAMES if "_vit" in name])
def test_format_and_config_agree(name: str) -> None:
    """On heads and on positions at other sizes, of which weights tell nothing."""
    cfg = load_config(f"eval/backbones/{name}")
    with torch.device("meta"):
        own = MODELS.build(cfg.model)
    state = {key.removeprefix("vit."): value for key, value in own.state_dict().items()}
    raw = RawCheckpoint(cfg.checkpoint.source, layout(name, state))
    found = convert(raw, arch=cfg.checkpoint.get("arch"))
    with torch.device("meta"):
        theirs = found.architecture.build()
    assert {k: v.shape for k, v in theirs.state_dict().items()} == {
        k: v.shape for k, v in own.state_dict().items()
    }
    assert theirs.resampling == own.resampling
    assert theirs.vit.blocks[0].attn.num_heads == own.vit.blocks[0].attn.num_heads
    assert theirs.vit.norm.eps == own.vit.norm.eps


GUIDE = (FOLDER.parents[2] / "docs" / "checkpoints.md").read_text()


def cells(heading: str) -> dict[str, list[str]]:
    """The rows of a table of the guide by their first cell."""
    part = GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in split}


def test_the_guide_has_every_format_and_says_which_are_checked() -> None:
    shown = cells("In")
    assert set(shown) == {entry.name for entry in formats()}
    for entry in formats():
        assert (shown[entry.name][1] != "unverified") == bool(entry.verified), entry.name


def test_the_guide_has_every_row() -> None:
    shown = {Path(row[0].strip("`")).stem: row[1] for row in cells("The paper's rows").values()}
    stated = {name: load_config(f"eval/backbones/{name}").checkpoint.license for name in NAMES}
    assert shown == stated
