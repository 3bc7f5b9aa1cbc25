"""What a dry run says about the shipped configs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from torch.utils.flop_counter import FlopCounterMode

from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.registry import HOOKS, MODELS
from msn_mm.utils.dry_run import Plan, dry_run, make_plan
from msn_mm.utils.training_cost import TrainingCost
from msn_mm.utils.vit_cost import ViTShape


def tiny() -> Config:
    return load_config(
        "msn_vits16.py",
        {
            "model.backbone.embed_dim": 48,
            "model.backbone.depth": 2,
            "model.backbone.num_heads": 3,
            "model.head.hidden_dim": 32,
            "model.head.output_dim": 16,
            "model.head.num_prototypes": 8,
            "global_batch_size": 64,
        },
    )


def test_the_plan_of_the_largest_model() -> None:
    plan = make_plan(load_config("msn_vitl7.py"), processes=8)
    assert {view.name: view.tokens for view in plan.views} == {
        "target": 1025,
        "anchor": 308,
        "focal": 170,
    }
    assert {view.name: view.num for view in plan.views}["focal"] == 10
    assert 3.0e8 < plan.target < plan.trained < 3.2e8
    assert (plan.batch.process_batch, plan.batch.global_batch) == (128, 1024)
    rate, decay, momentum = plan.schedules
    assert (rate.first, rate.highest[0]) == pytest.approx((0.0002, 0.001))
    assert rate.last < 1e-7
    assert (decay.first, decay.last) == pytest.approx((0.04, 0.4), rel=1e-3)
    assert (momentum.first, momentum.last) == (0.996, 1.0)
    assert plan.memory is not None
    assert plan.memory.optimizer == 8 * plan.trained
    assert torch.cuda.is_available() or plan.memory.total > 10 * 2**30  # nothing was allocated


class ForeignHook(Hook):
    """Does what only a training may do."""

    def __init__(self, folder: str) -> None:
        Path(folder, "made").touch()


def test_a_plan_builds_nothing_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HOOKS.module_dict, "ForeignHook", ForeignHook)
    cfg = tiny()
    cfg.custom_hooks = [
        dict(type="EmptyCacheHook", priority="LOW"),
        dict(type="ForeignHook", folder=str(tmp_path)),
        *cfg.custom_hooks,
    ]
    metric = dict(type="LowShotMetric")
    for evaluator in (
        metric,
        [metric],
        dict(metrics=metric),
        dict(type="Evaluator", metrics=[metric]),
    ):
        cfg.val_evaluator = evaluator
        make_plan(cfg)
    assert not list(tmp_path.iterdir())
    cfg.val_evaluator = dict(metrics=[dict(type="LowShotMetrik")])
    with pytest.raises(UserError, match="no metric is registered as 'LowShotMetrik'"):
        make_plan(cfg)
    cfg.val_evaluator = metric
    cfg.optim_wrapper.type = "AmpOptimWrapper"  # asks for a GPU when it is built
    make_plan(cfg)


def test_flops_sum_over_the_views() -> None:
    plan = make_plan(tiny())
    shape = ViTShape(width=48, hidden=192, depth=2, patch_numbers=3 * 16 * 16)
    head = 2 * (48 * 32 + 32 * 32 + 32 * 16 + 8 * 16)
    expected = 0
    for view in plan.views:
        forward = shape.forward_flops(view.tokens, view.patches, cls_only=True) + head
        backward = shape.backward_flops(view.tokens, view.patches, cls_only=True) + 2 * head
        expected += view.num * (forward + (0 if view.name == "target" else backward))
    assert plan.flops == expected


@pytest.mark.parametrize("amp", [False, True])
def test_costs_are_near_what_a_step_takes(amp: bool) -> None:
    cfg = tiny()
    views = make_plan(cfg).views
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("msn_mm"):
        model = MODELS.build(cfg.model)
    images = 2
    inputs = {
        view.name: {
            "images": torch.randn(images * view.num, 3, view.size, view.size),
            "key": torch.arange(images * view.num),
        }
        for view in views
    }
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in weights:
            kept[pointer] = tensor
        return tensor

    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=amp),
    ):
        losses = model.loss(inputs)
        (losses["loss_msn"] + losses["loss_me_max"]).backward()
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    if amp:  # the weights' copies in bfloat16 are counted with the parameters
        measured -= sum(2 * p.numel() for p in model.parameters() if p.requires_grad and p.ndim > 1)
    cost = TrainingCost.of(cfg, model, amp)
    assert cost is not None
    assert cost.kept_bytes(images) == pytest.approx(measured, rel=0.05)
    assert make_plan(cfg).flops * images == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_memory_follows_batch_and_precision() -> None:
    cfg = tiny()
    one, two, half = make_plan(cfg), make_plan(cfg, processes=2), make_plan(cfg, amp=True)
    assert one.memory and two.memory and half.memory
    assert two.memory.activations == one.memory.activations // 2
    assert two.memory.gradients == 2 * one.memory.gradients == 8 * one.trained
    assert half.memory.activations < one.memory.activations


def test_a_micro_batch_bounds_the_prediction_and_auto_takes_what_fits() -> None:
    def plan(micro_batch: int | str | None, images: int = 64, **options: Any) -> Plan:
        cfg = tiny()
        cfg.merge_from_dict({"model.micro_batch": micro_batch, "global_batch_size": images})
        return make_plan(cfg, **options)

    whole, eight, four = plan(None), plan(8), plan(4)
    assert whole.memory and eight.memory and four.memory
    assert four.memory.activations < eight.memory.activations < whole.memory.activations
    assert four.flops == eight.flops and 1.15 < four.flops / whole.flops < 1.35
    larger = plan(8, images=128).memory
    assert larger is not None
    # Pixels, heads and outputs grow with the batch, the trunk's activations do not.
    grown = larger.activations - eight.memory.activations
    assert grown < 0.4 * (plan(None, images=128).memory.activations - whole.memory.activations)

    auto = plan("auto", device_memory=eight.memory.total / 0.8 / 2**30 * 1.001)
    assert auto.micro_batch.startswith("auto: 8 views at a time, ")
    assert auto.memory == eight.memory
    assert plan("auto", device_memory=1000.0).memory == whole.memory
    least = plan("auto", device_memory=0.001)
    assert least.micro_batch.startswith("auto: 1 views") and "may not fit" in least.micro_batch
    report = dry_run(load_config("msn_vitl7.py"), processes=8, amp=True)
    assert re.search(r"micro-batch +64 views at a time\n", report)


@pytest.mark.parametrize("name", ["msn_vitl7", "msn_vitb4", "msn_vith14", "msn_vitl7_fsdp"])
def test_the_largest_models_are_predicted_to_fit_80_gb_on_8(name: str) -> None:
    # float32; bfloat16 autocast takes less
    memory = make_plan(load_config(f"{name}.py"), processes=8).memory
    assert memory is not None and memory.total < 0.8 * 80e9


def test_the_report_names_everything() -> None:
    text = dry_run(tiny(), processes=2, images_per_s=1000.0)
    for words in (
        "32 a process x 2 x 1 accumulated = 64",
        "10 x 96 pixels, 37 tokens with CLS",
        "FLOPs an image",
        "predicted in fp32",
        "800 epochs, 1,281,167 images (ImageNet-1K's; the data is not here)",
        "11.9 days at 1000 images/s",
    ):
        assert words in text, text
    assert "global_batch_size=64" in text.replace(" ", ""), "the resolved config comes first"


@pytest.mark.parametrize(("processes", "rate"), [(0, None), (1, 0.0), (1, float("nan")), (3, None)])
def test_impossible_requests_are_told(processes: int, rate: float | None) -> None:
    with pytest.raises(UserError):
        dry_run(tiny(), processes, rate)


def test_a_plan_fetches_no_shards(tmp_path: Path) -> None:
    mark = tmp_path / "fetched"
    cfg = load_config("msn_shards.py", {"data_root": f"pipe:touch {mark}"})
    assert make_plan(cfg).images[0] is None
    assert not mark.exists()
