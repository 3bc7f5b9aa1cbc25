"""ViT, MAE and DINOv2 of Hugging Face's transformers, against its own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from convert.vits import HEADS, PATCH, SIZE, WIDTH, images, randomise, relative
from safetensors.torch import load_file, save_file

from msn_mm import load_classifier
from msn_mm.convert.classifier import build_classifier
from msn_mm.convert.format import RawCheckpoint, convert, load_trunk
from msn_mm.convert.source import read_source
from msn_mm.errors import UserError

transformers = pytest.importorskip("transformers")
CLASSES = 5
COMMON = dict(
    hidden_size=WIDTH,
    num_hidden_layers=2,
    num_attention_heads=HEADS,
    image_size=SIZE,
    patch_size=PATCH,
    num_labels=CLASSES,
)
PLAIN = {**COMMON, "intermediate_size": 72}
# MAE hides patches at random; with none hidden, their random order does not matter to CLS.
MAE = {**PLAIN, "mask_ratio": 0.0, "decoder_hidden_size": 12, "decoder_num_hidden_layers": 1}
MAE |= {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 16}
GATED = {**COMMON, "use_swiglu_ffn": True}
REGISTERS = {**COMMON, "num_register_tokens": 3}

CASES = {
    "ViTModel": ("ViTModel", "ViTConfig", PLAIN, "hf_vit"),
    "ViTForImageClassification": ("ViTForImageClassification", "ViTConfig", PLAIN, "hf_vit"),
    "ViT for masked images": ("ViTForMaskedImageModeling", "ViTConfig", PLAIN, "hf_vit"),
    "ViT, other norms": ("ViTModel", "ViTConfig", {**PLAIN, "layer_norm_eps": 1e-2}, "hf_vit"),
    "ViT, no bias": ("ViTModel", "ViTConfig", {**PLAIN, "qkv_bias": False}, "hf_vit"),
    "ViTMAEModel": ("ViTMAEModel", "ViTMAEConfig", MAE, "hf_mae"),
    "ViTMAEForPreTraining": ("ViTMAEForPreTraining", "ViTMAEConfig", MAE, "hf_mae"),
    "Dinov2Model": ("Dinov2Model", "Dinov2Config", COMMON, "hf_dinov2"),
    "Dinov2 gated": ("Dinov2Model", "Dinov2Config", GATED, "hf_dinov2"),
    "Dinov2ForImageClassification": (
        "Dinov2ForImageClassification",
        "Dinov2Config",
        COMMON,
        "hf_dinov2",
    ),
    "Dinov2WithRegistersModel": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        REGISTERS,
        "hf_dinov2",
    ),
    "Dinov2WithRegisters gated": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        {**REGISTERS, "use_swiglu_ffn": True},
        "hf_dinov2",
    ),
}


def build(case: str) -> tuple[Any, str]:
    kind, config, settings, name = CASES[case]
    if kind == "ViTForMaskedImageModeling":
        settings = {**settings, "encoder_stride": PATCH}
    model = getattr(transformers, kind)(getattr(transformers, config)(**settings))
    randomise(model)
    return model.eval(), name


@torch.no_grad()
def cls(model: Any, x: torch.Tensor) -> torch.Tensor:
    """What transformers' own class has for CLS, after its last norm."""
    model = getattr(model, model.base_model_prefix, model)
    is_dinov2 = model.config.model_type.startswith("dinov2")
    resized = {} if is_dinov2 else {"interpolate_pos_encoding": True}
    return model(x, **resized).last_hidden_state[:, 0]


@pytest.mark.parametrize("case", CASES)
def test_saved_models_give_the_same_features(case: str, tmp_path: Path) -> None:
    model, name = build(case)
    model.save_pretrained(tmp_path)
    found = convert(read_source(tmp_path))
    assert found.format == name
    left = ("pooler.", "decoder.", "embeddings.mask_token", "classifier.")
    bare = [key.removeprefix(f"{model.base_model_prefix}.") for key in found.ignored]
    assert all(key.startswith(left) for key in bare)
    trunk = load_trunk(found, "x")
    for size in (SIZE, 64, 32):
        x = images(size)
        assert relative(trunk(x), cls(model, x)) < 1e-5, size


@pytest.mark.parametrize("case", CASES)
def test_state_dicts_of_the_modules_are_known_too(case: str) -> None:
    """Without a config; what it would tell is said."""
    model, name = build(case)
    told = {"heads": HEADS, "epsilon": model.config.layer_norm_eps}
    found = convert(RawCheckpoint("x", model.state_dict()), name, told)
    x = images(64)
    assert relative(load_trunk(found, "x")(x), cls(model, x)) < 1e-5


def test_without_a_config_the_norms_are_those_of_the_class() -> None:
    """Epsilons of 1e-12 against 1e-6 show where a token hardly varies."""
    for case in ("ViTModel", "ViTMAEForPreTraining", "Dinov2Model"):
        model, name = build(case)
        found = convert(RawCheckpoint("x", model.state_dict()), arch={"heads": HEADS})
        assert found.format == name
        vit: Any = load_trunk(found, "x")
        assert vit.vit.norm.eps == model.config.layer_norm_eps


@torch.no_grad()
def test_classifiers_are_kept_where_they_read_cls(tmp_path: Path) -> None:
    model, _ = build("ViTForImageClassification")
    model.save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5]}'
    )
    ours = load_classifier(tmp_path / "vit")
    x = images(SIZE)
    assert relative(ours(x), model(x).logits) < 1e-5
    assert (ours.mean, ours.std) == ((0.5, 0.5, 0.5), (0.25, 0.5, 0.5))

    other, _ = build("Dinov2ForImageClassification")
    other.save_pretrained(tmp_path / "dinov2")
    found = convert(read_source(tmp_path / "dinov2"))
    assert {"classifier.weight", "classifier.bias"} <= set(found.ignored)
    with pytest.raises(UserError, match="has no classification head"):
        build_classifier(found, "x")


def test_the_config_decides_between_models_with_the_same_names(tmp_path: Path) -> None:
    model, _ = build("ViTForImageClassification")
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    kinds = {"vit": "hf_vit", "vit_mae": "hf_mae", "vit_msn": "hf_msn"}
    for kind, name in kinds.items():
        config = {"model_type": kind, "num_attention_heads": HEADS}
        assert convert(RawCheckpoint("x", state, config)).format == name
    with pytest.raises(UserError, match="no checkpoint of an image encoder"):
        convert(RawCheckpoint("x", state, {"model_type": "deit"}))
    # Alone it is MSN's, and what else the user says.
    save_file(state, tmp_path / "alone.safetensors")
    raw = read_source(tmp_path / "alone.safetensors")
    assert convert(raw, arch={"heads": HEADS}).format == "hf_msn"
    assert convert(raw, "hf_vit", {"heads": HEADS}).format == "hf_vit"


def test_a_gate_without_its_other_half_is_refused() -> None:
    state = build("Dinov2 gated")[0].state_dict()
    state.pop("encoder.layer.1.mlp.up_proj.weight")
    with pytest.raises(UserError, match="without its up"):
        convert(RawCheckpoint("x", state), arch={"heads": HEADS})
