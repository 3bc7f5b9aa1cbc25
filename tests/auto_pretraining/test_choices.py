"""What is chosen, over machines and folders of images."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from mmengine.config import Config

from msn_mm.auto_pretraining import planning
from msn_mm.auto_pretraining.choices import choose
from msn_mm.auto_pretraining.config_writer import Data, cost_of_choices, make_config
from msn_mm.auto_pretraining.image_survey import Survey
from msn_mm.auto_pretraining.length import in_time, wanted_epochs
from msn_mm.auto_pretraining.machine import Machine
from msn_mm.auto_pretraining.settings import Choices, Start, Wishes
from msn_mm.auto_pretraining.speed import Speed, spell_time
from msn_mm.auto_pretraining.views import view_sizes
from msn_mm.engine.micro_batch import GIB, USED_SHARE
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.utils.dry_run import make_plan

MACHINES = {
    "one core": Machine("cpu", "x86_64", 0, 4 * GIB, 1, False, 60e9),
    "laptop": Machine("cpu", "x86_64", 0, 12 * GIB, 8, False, 400e9),
    "8 GB": Machine("cuda", "a GPU", 1, 7 * GIB, 8, True, 30e12),
    "24 GB": Machine("cuda", "a GPU", 1, 23 * GIB, 16, True, 120e12),
    "80 GB": Machine("cuda", "a GPU", 4, 79 * GIB, 32, True, 600e12),
    "old GPU": Machine("cuda", "a GPU", 1, 10 * GIB, 8, False, 10e12),
    "mac": Machine("mps", "Apple GPU (mps)", 1, 12 * GIB, 10, False, 8e12),
}


def images(count: int, side: int, is_grey: bool = False) -> Survey:
    values = (120.0,) if is_grey else (120.0, 110.0, 100.0)
    return Survey(count, "", (side, side, side), {"JPEG": 9}, is_grey, values, values, 9)


FOLDERS = {
    "digits": images(1_297, 32, is_grey=True),
    "300 photos": images(300, 500),
    "20,000 photos": images(20_000, 500),
    "50,000 of 32 pixels": images(50_000, 32),
    "1,000,000 photos": images(1_000_000, 400),
}
# Width, depth, side, patch, focal views, batch, whether in parts, bfloat16.
TABLE: list[tuple[str, str, tuple[Any, ...]]] = [
    ("one core", "digits", (96, 4, 32, 8, 2, 64, False, False)),
    ("laptop", "digits", (96, 4, 32, 8, 2, 64, False, False)),
    ("laptop", "300 photos", (96, 4, 224, 16, 4, 16, False, False)),
    ("laptop", "20,000 photos", (192, 12, 224, 16, 4, 128, False, False)),
    ("one core", "20,000 photos", (192, 12, 128, 16, 4, 64, False, False)),
    ("8 GB", "20,000 photos", (384, 12, 224, 16, 10, 256, True, True)),
    ("24 GB", "20,000 photos", (384, 12, 224, 16, 10, 256, True, True)),
    ("80 GB", "20,000 photos", (384, 12, 224, 16, 10, 256, False, True)),
    ("8 GB", "50,000 of 32 pixels", (384, 12, 32, 4, 6, 256, True, True)),
    ("80 GB", "1,000,000 photos", (768, 12, 224, 16, 10, 1024, True, True)),
    ("mac", "digits", (96, 4, 32, 8, 6, 64, False, False)),
    ("old GPU", "300 photos", (96, 4, 224, 16, 10, 16, False, False)),
]


def chosen(machine: str, folder: str, **wishes: Any) -> Choices:
    survey = FOLDERS[folder]
    cost_of = cost_of_choices(Data("images", survey.count))
    return choose(MACHINES[machine], survey, Wishes(**wishes), cost_of)


@pytest.mark.parametrize(
    ("machine", "folder", "wanted"), TABLE, ids=lambda x: x if isinstance(x, str) else ""
)
def test_the_table(machine: str, folder: str, wanted: tuple[Any, ...]) -> None:
    here, survey = MACHINES[machine], FOLDERS[folder]
    c = chosen(machine, folder)
    b = c.backbone
    got = (b["embed_dim"], b["depth"], c.sizes.side, c.sizes.patch, c.focal_views, c.batch)
    assert (*got, c.micro_batch is not None, c.amp) == wanted
    assert here.memory is not None and c.needed <= USED_SHARE * here.memory
    hours = c.epochs * survey.count / c.images_per_s / 3600
    assert hours <= 12 and (c.epochs == wanted_epochs(survey.count) or hours > 6)
    assert c.is_grey == survey.is_grey and c.mirror != survey.is_grey
    assert len(c.mean) == b["in_chans"] == survey.channels
    assert c.fused == c.forks == (here.kind != "mps") and c.pin_memory == (here.kind == "cuda")
    assert c.sizes.side % c.sizes.patch == 0 == c.sizes.focal % c.sizes.patch
    assert c.head[2] >= 32 and c.head[2] in (32, c.batch)
    for name, (value, why) in c.reasons.items():
        assert name and value and why and "\n" not in value + why
    assert "accumulated" in c.reasons["memory"][1] or c.micro_batch is None


def test_the_dry_run_predicts_the_same_memory() -> None:
    c = chosen("8 GB", "20,000 photos")
    plan = make_plan(make_config(c, Data("images", 20_000)), amp=True)
    assert plan.memory is not None and plan.memory.total == pytest.approx(c.needed, rel=1e-3)
    assert plan.batch.accumulation == 1 and plan.batch.lr_scale == 1.0
    assert plan.schedules[0].highest[0] == pytest.approx(c.rate, rel=1e-3)


def test_more_time_gives_more() -> None:
    short = chosen("one core", "20,000 photos", hours=2)
    long = chosen("one core", "20,000 photos", hours=200)
    assert short.backbone["depth"] * short.backbone["embed_dim"] < long.backbone["embed_dim"] * 12
    assert long.sizes.side == 224 > short.sizes.side
    fast = dataclasses.replace(short, images_per_s=1e6)
    assert in_time(fast, 20_000, 2).epochs == 300
    assert in_time(dataclasses.replace(short, images_per_s=1e-6), 20_000, 2).epochs == 1


def test_a_plan_learns_from_what_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is fuller than it said, then a tenth as fast."""
    tried: list[tuple[int, int | None]] = []

    def timed(cfg: Config) -> Speed:
        size = cfg.model.get("micro_batch")
        tried.append((cfg.model.backbone.embed_dim, size))
        if len(tried) == 1:
            raise torch.OutOfMemoryError
        step_s = cfg.global_batch_size / (4.0 if cfg.model.backbone.embed_dim == 384 else 40.0)
        return Speed(cfg.global_batch_size, step_s, step_s, step_s)

    monkeypatch.setattr(planning, "time_steps", timed)
    survey = FOLDERS["20,000 photos"]
    plan = planning.make_plan(MACHINES["24 GB"], survey, Wishes(), Data("images", survey.count))
    (first, large), (second, small), (third, _) = tried
    assert first == second == 384 and large is not None and small is not None and small < large
    assert third == 192 == plan.config.model.backbone.embed_dim
    assert plan.chosen.images_per_s == 40.0 and plan.config.train_cfg.max_epochs == 82
    assert plan.seconds[0] == pytest.approx(
        82 * (20_000 // plan.chosen.batch) * plan.chosen.batch / 40
    )
    text = planning.describe(plan, MACHINES["24 GB"], survey, 12.0)
    assert "what 12 hours allow" in text and "about 11 h" in text


def test_a_device_that_tells_no_memory_gets_whole_batches() -> None:
    here = dataclasses.replace(MACHINES["mac"], memory=None)
    survey = FOLDERS["digits"]
    c = choose(here, survey, Wishes(), cost_of_choices(Data("images", survey.count)))
    assert c.micro_batch is None and "does not tell" in c.reasons["memory"][1]


def test_wishes_and_a_checkpoint_come_first() -> None:
    start = Start(
        name="a.pth",
        described="ViT of width 48",
        backbone=dict(type="MaskedViT", img_size=64, patch_size=8, in_chans=3, embed_dim=48,
                      depth=2, num_heads=3),
        width=48,
        patch=8,
        side=64,
        channels=3,
        mean=(1.0, 2.0, 3.0),
        std=(4.0, 5.0, 6.0),
        head=(40, 24, 10),
    )  # fmt: skip
    c = chosen("laptop", "digits", start=start, mirror=True, rate=0.5)
    assert (c.backbone["embed_dim"], c.head, c.start) == (48, (40, 24, 10), "a.pth")
    # the images are smaller than what the checkpoint has seen
    assert (c.sizes.side, c.sizes.patch, c.backbone["img_size"]) == (32, 8, 32)
    assert c.mirror and c.rate == 0.5 and c.mean == (1.0, 2.0, 3.0)
    own = chosen("laptop", "digits", start=dataclasses.replace(start, head=None))
    plain = chosen("laptop", "digits")
    assert own.rate < plain.rate and own.head[2] == 64


@pytest.mark.parametrize(
    ("short_side", "wanted"),
    [
        (8, (32, 16, 4)),
        (28, (28, 12, 4)),
        (32, (32, 16, 4)),
        (64, (64, 32, 8)),
        (100, (96, 48, 8)),
        (130, (128, 64, 16)),
        (224, (224, 96, 16)),
        (4000, (224, 96, 16)),
    ],
)
def test_views_follow_the_images(short_side: int, wanted: tuple[int, int, int]) -> None:
    sizes = view_sizes(short_side)
    assert (sizes.side, sizes.focal, sizes.patch) == wanted
    assert MaskedViT(img_size=sizes.side, patch_size=sizes.patch, embed_dim=12, depth=1,
                     num_heads=1).num_tokens(sizes.focal) > 1  # fmt: skip


def test_a_mac_s_config_asks_for_nothing_that_its_gpu_lacks() -> None:
    cfg = make_config(chosen("mac", "digits"), Data("images", 1_297))
    assert cfg.optim_wrapper.type == "GroupOptimWrapper"  # no autocast
    assert cfg.optim_wrapper.optimizer.fused is False
    assert cfg.env_cfg.mp_cfg.mp_start_method == "spawn"
    assert cfg.train_dataloader.pin_memory is False and cfg.train_dataloader.num_workers == 9


def test_nothing_on_the_way_of_a_step_is_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's GPU has none. The model computes on the CPU here, where float64 would pass."""
    from torch.overrides import TorchFunctionMode

    from msn_mm.datasets import Digits, MultiCrop, MultiViewDataset, multi_view_collate
    from msn_mm.registry import MODELS

    c = chosen("mac", "digits")
    cfg = make_config(c, Data("images", 1_297))
    views = MultiCrop(cfg.train_dataloader.dataset.transform.views, channels=1)
    data = MultiViewDataset(Digits(indices=4), views)
    batch = multi_view_collate([data[i] for i in range(4)])
    model = MODELS.build(cfg.model)
    met: list[str] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.dtype == torch.float64:
                met.append(getattr(func, "__name__", str(func)))
            return out

    with Watch():
        loss = model.parse_losses(model(**model.data_preprocessor(batch), mode="loss"))[0]
        loss.backward()
    # made on the host in float64 and cast before it travels
    assert loss.isfinite() and "backward" not in met
    assert set(met) <= {"eye", "reshape", "interpolate", "contiguous", "__get__"}, met


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (89, "89 s"),
        (100, "2 min"),
        (3_540, "59 min"),
        (12_000, "3 h 20 min"),
        (10_700, "2 h 50 min"),
        (7_200, "2 h"),
        (90_000, "1 day 1 h"),
        (172_800, "2 days"),
    ],
)
def test_a_time_is_said_as_users_say_it(seconds: float, text: str) -> None:
    assert spell_time(seconds) == text


def test_a_speed_tells_a_range() -> None:
    speed = Speed(batch=10, step_s=1.0, low_s=0.8, high_s=1.5)
    assert speed.images_per_s == 10.0
    assert speed.range_s(100) == pytest.approx((100, 72, 165))
