"""RCDM as a model: frozen encoder, keyed noise, a checkpoint with all that sampling needs."""

from __future__ import annotations

import sys

import pytest
import torch

from msn_mm.diffusion.sampling import SampleId, Sampler, draw_samples
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.models.ops.counter_rng import normal, uniform
from msn_mm.registry import MODELS
from tests.diffusion.tiny import tiny_rcdm, tiny_settings, view
from tests.helpers import assert_same, run, weights


def rows_of(batch, chosen):
    return {"image": {name: value[chosen] for name, value in batch["image"].items()}}


def total(losses):
    return sum(value for name, value in losses.items() if name.startswith("loss"))


@pytest.mark.parametrize("mask_ratio", [0.0, 0.7])
def test_a_loss_is_the_mean_over_images_whatever_the_batch(mask_ratio):
    model = tiny_rcdm(mask_ratio=mask_ratio)
    batch = view(6)
    whole = model(batch, mode="loss")
    torch.manual_seed(7)
    parts = [model(rows_of(batch, chosen), mode="loss") for chosen in ([5, 0], [1, 2], [4, 3])]
    for name, value in whole.items():
        mean = torch.stack([part[name] for part in parts]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-6)
    other = rows_of(batch, slice(None))
    other["image"]["key"] = other["image"]["key"] + 1
    assert abs(total(model(other, mode="loss")) - total(whole)) > 1e-4


def test_training_moves_the_unet_alone():
    model = tiny_rcdm()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    first = total(model(view(), mode="loss"))
    first.backward()
    optimizer.step()
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert moved and all(name.startswith("unet.") for name in moved)
    # A bias of attention's keys moves all of a row's logits alike.
    still = {name for name, _ in model.unet.named_parameters()}
    still -= {name.removeprefix("unet.") for name in moved}
    assert all(name.endswith("to_k.bias") for name in still), "every weight learns"
    for _ in range(20):
        optimizer.zero_grad()
        loss = total(model(view(), mode="loss"))
        loss.backward()
        optimizer.step()
    assert loss < first


def test_masks_change_the_representation_as_keyed():
    model, batch = tiny_rcdm(), view()["image"]
    whole = model.represent(batch["images"])
    masked = model.represent(batch["images"], 0.7, batch["key"])
    assert (whole - masked).abs().amax(1).min() > 1e-4
    alone = model.represent(batch["images"][2:3], 0.7, batch["key"][2:3])
    assert torch.equal(alone, masked[2:3])


def test_a_fixed_variance_and_bfloat16():
    fixed = tiny_rcdm(learned_variance=False)
    losses = fixed(view(), mode="loss")
    assert set(losses) == {"loss_noise"}
    ids = [SampleId(0, 0), SampleId(0, 1)]
    drawn = draw_samples(fixed, torch.randn(2, 24), ids, Sampler("ddpm", 3))
    assert drawn.shape == (2, 1, 8, 8) and drawn.float().std() > 1
    with torch.autocast("cpu", torch.bfloat16):
        coarse = fixed(view(), mode="loss")
    assert coarse["loss_noise"].dtype == torch.float32
    assert coarse["loss_noise"].item() == pytest.approx(losses["loss_noise"].item(), rel=0.02)
    assert coarse["loss_noise"] != losses["loss_noise"]


def test_statistics_bring_numbers_to_one_scale():
    model, images = tiny_rcdm(), view(40)["image"]["images"]
    raw = model.represent(images)
    model.set_statistics(raw.mean(0), raw.std(0, correction=0))
    found = model.represent(images)
    torch.testing.assert_close(found.mean(0), torch.zeros(24), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(24), atol=1e-4, rtol=0)
    flat = torch.zeros(24)
    flat[0] = 1.0
    model.set_statistics(torch.zeros(24), flat)
    torch.testing.assert_close(model.represent(images), raw)


def test_normal_numbers_of_a_key():
    keys = torch.arange(2000)
    found = normal(keys, 5, 7)
    assert found.shape == (2000, 7)
    assert torch.equal(found[[17]], normal(keys[[17]], 5, 7))
    assert abs(found.mean()) < 0.03 and abs(found.std() - 1) < 0.03
    assert abs((found**4).mean() - 3) < 0.3
    correlation = torch.corrcoef(found.T) - torch.eye(7)
    assert correlation.abs().max() < 0.1
    assert not torch.equal(normal(keys, 4, 7), found)
    assert uniform(keys, 5, 1).min() >= 0


def digits_config(**options):
    cfg = load_config("configs/rcdm_digits.py")
    settings = tiny_settings()
    cfg.merge_from_dict(
        {
            "train_dataloader.dataset.dataset.indices": 32,
            "global_batch_size": 8,
            "base_batch_size": 8,
            "train_cfg.max_epochs": 2,
            "default_hooks.checkpoint.interval": 1,
            "visualizer.vis_backends": [dict(type="LocalVisBackend")],
        }
    )
    cfg.model = settings
    cfg.merge_from_dict(options)
    return cfg


def test_a_resumed_training_is_the_same_to_the_last_bit(tmp_path):
    whole = run(digits_config(), tmp_path / "whole")
    resumed = run(digits_config(), tmp_path / "resumed", resume=tmp_path / "whole" / "epoch_1.pth")
    assert_same(weights(resumed), weights(whole))
    state = weights(whole)
    assert state["representation_deviation"].min() > 0
    average = torch.cat(
        [(state[n] - state[f"ema_{n}"]).flatten() for n in state if n[:5] == "unet."]
    )
    assert average.abs().max() > 1e-5, "the moving average lags behind"


def test_another_encoder_is_refused_at_a_resume(tmp_path):
    run(digits_config(), tmp_path / "whole")
    trunk = tiny_rcdm().backbone
    with torch.no_grad():
        next(iter(trunk.parameters())).add_(1)
    torch.save({"state_dict": trunk.state_dict()}, tmp_path / "other.pth")
    cfg = digits_config(**{"model.encoder.checkpoint": str(tmp_path / "other.pth")})
    with pytest.raises(UserError, match="trained with another encoder: give --backbone"):
        run(cfg, tmp_path / "again", resume=tmp_path / "whole" / "epoch_1.pth")


def test_without_diffusers_one_line_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "diffusers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 'msn_mm\[rcdm\]'"):
        tiny_rcdm()


def test_a_convolutional_encoder_cannot_be_masked():
    trunk = dict(type="PlainResNet", layers=(1, 1), block="basic", base_channels=8, in_channels=1)
    encoder = dict(model=trunk, data_preprocessor=dict(mean=[78.0], std=[90.0]))
    model = tiny_rcdm(encoder=encoder)
    assert model.represent(view()["image"]["images"]).shape == (6, model.unet.representation_width)
    with pytest.raises(UserError, match="PlainResNet cannot give masked images"):
        tiny_rcdm(encoder=encoder, mask_ratio=0.5)
    assert MODELS.get("RCDM") is type(model)
