"""Encoders of configs and checkpoints in the form that a classifier's file keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from msn_mm.errors import UserError
from msn_mm.evaluation.encoder import build_encoder
from msn_mm.few_labels.encoder import read_encoder
from msn_mm.few_labels.fitting import fit
from msn_mm.few_labels.labels import Labels
from msn_mm.few_labels.onnx_file import write_onnx
from msn_mm.few_labels.predictor import Predictor

RESNET = Config(
    dict(
        model=dict(type="PlainResNet", layers=(1, 1), block="basic", base_channels=8),
        data_preprocessor=dict(mean=[10.0, 20.0, 30.0], std=[50.0, 60.0, 70.0]),
        test_dataloader=dict(
            dataset=dict(
                type="LabelledImages",
                support=dict(),
                query=dict(),
                transform=dict(type="EvalCrop", resize=36, crop=32),
            )
        ),
    )
)


def test_what_is_kept_computes_what_the_config_builds() -> None:
    kept = read_encoder(None, RESNET)
    assert kept.view.settings() | {"resize": 36, "crop": 32} == kept.view.settings()
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    expected = build_encoder(RESNET, None, device="cpu")(images)
    assert torch.allclose(kept.build("cpu")(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (dict(type="RawPixels", in_channels=3), "cannot hold the backbone RawPixels"),
        (
            dict(type="mmpretrain.TIMMBackbone", model_name="resnet10t", pretrained=False),
            "cannot hold the backbone TIMMBackbone",
        ),
    ],
)
def test_other_backbones_are_refused(model: dict, line: str) -> None:
    with pytest.raises(UserError, match=line):
        read_encoder(None, Config(dict(model=model)))
    with pytest.raises(UserError, match="there must be a config"):
        read_encoder(None)


@pytest.mark.slow
def test_a_residual_network_is_exported_for_any_number_of_images(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    files = [str(tmp_path / f"{k}.png") for k in range(6)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(file)
    fitted = fit(Labels(files, files, [0, 1] * 3, ("a", "b"), []), read_encoder(None, RESNET), 1.0)
    predictor = Predictor(fitted.content, "cpu")
    write_onnx(predictor, tmp_path / "c.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "c.onnx"))
    views = torch.stack([predictor.content.view({"img_path": file}) for file in files])
    expected = predictor.answer(predictor.encoder(views).numpy()).probabilities
    for count in (1, 6):
        (got, _) = session.run(None, {"images": views[:count].numpy()})
        assert np.abs(got - expected[:count]).max() < 1e-5
