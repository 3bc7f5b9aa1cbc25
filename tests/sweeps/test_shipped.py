"""The shipped sweep files: their budgets, what differs between runs, what the paper says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from msn_mm.sweeps.budget import budget_of, budget_warning
from msn_mm.sweeps.measuring import untrained_rows
from msn_mm.sweeps.sweep_file import Sweep, SweepRun, read_sweep
from msn_mm.utils.config_files import config_directories

FOLDER = config_directories()[0] / "sweeps"
SHARED = Path(os.environ.get("MSN_MM_SHARED", FOLDER.parents[2] / "shared"))
DIGITS = sorted(file.stem for file in FOLDER.glob("*_digits.py"))
VIEWS = "train_dataloader.dataset.transform.views"


def read(name: str) -> Sweep:
    return read_sweep(FOLDER / f"{name}.py")


def settings(run: SweepRun) -> tuple[int, float, int]:
    loss, head = run.cfg.model.loss, run.cfg.model.head
    return loss.sinkhorn_iterations, loss.me_max_weight, head.num_prototypes


@pytest.mark.parametrize("name", DIGITS)
def test_runs_on_digits_have_one_budget(name: str) -> None:
    sweep = read(name)
    budgets = {run.label: budget_of(run) for run in sweep.runs}
    assert budget_warning(budgets) is None
    images = {one.images for one in budgets.values()}
    assert images == ({153_600} if name == "zoo_digits" else {38_400})
    if name != "zoo_digits":
        assert list(sweep.seeds) == [0, 1, 2]


def test_the_zoo_names_every_method_on_digits() -> None:
    sweep = read("zoo_digits")
    methods = {path.name for path in FOLDER.parent.glob("*_digits.py")}
    others = {f"{name}_digits.py" for name in ("linear", "finetune", "partial", "rcdm")}
    assert {Path(run.config).name for run in sweep.runs} == methods - others
    # every method has its untrained self to beat
    groups = untrained_rows(sweep.runs)
    assert sorted(run.label for group in groups.values() for run in group) == sorted(
        run.label for run in sweep.runs
    )
    as_msn = [run.label for run in groups["untrained, as MSN"]]
    assert {"PMSN", "DINO", "iBOT"} < set(as_msn) and "SimCLR" not in as_msn


@pytest.mark.parametrize("suffix", ["", "_digits"])
def test_the_rows_of_table_11(suffix: str) -> None:
    runs = read(f"ablation_sinkhorn{suffix}").runs
    assert [settings(run)[:2] for run in runs] == [(3, 1.0), (0, 1.0), (0, 5.0)]


@pytest.mark.parametrize("suffix", ["", "_digits"])
def test_masking_strategies_leave_out_views_and_masks(suffix: str) -> None:
    def views(run: SweepRun) -> tuple[float, int, int]:
        groups = run.cfg.train_dataloader.dataset.transform.views
        ratio = run.cfg.model.mask_ratio.anchor
        return ratio, groups.anchor.get("num", 1), groups.focal.num

    ratio, focal = (0.15, 2) if suffix else (0.3, 10)
    found = [views(run) for run in read(f"ablation_masking{suffix}").runs]
    assert found == [(0.0, 1, 0), (ratio, 0, focal), (ratio, 1, 0), (ratio, 1, focal)]
    own, shared = read(f"ablation_view_sharing{suffix}").runs
    assert views(own) == views(shared) == (ratio, 1, 0)
    assert own.options.keys() ^ shared.options.keys() == {f"{VIEWS}.anchor.same_as"}


def test_prototypes_and_mask_ratios() -> None:
    full = [settings(run)[2] for run in read("ablation_prototypes").runs]
    assert full == [512, 1024, 2048]
    digits = [settings(run)[2] for run in read("ablation_prototypes_digits").runs]
    assert digits == [8, 16, 32, 64, 128, 256]
    ratios = [run.cfg.model.mask_ratio.anchor for run in read("ablation_mask_ratio_digits").runs]
    assert ratios == [0.0, 0.15, 0.3, 0.5, 0.7]


@pytest.mark.skipif(not (SHARED / "paper/tables.json").is_file(), reason="no tables at hand")
def test_published_numbers_are_the_paper_s() -> None:
    tables = json.loads((SHARED / "paper/tables.json").read_text())

    def published(name: str) -> list[float | None]:
        return [run.published for run in read(name).runs]

    def of(table: str) -> list[float]:
        return list(tables[table].values())

    for suffix in ("", "_digits"):
        sinkhorn = of("table11_sinkhorn_vits16_one_percent")
        assert published(f"ablation_sinkhorn{suffix}") == sinkhorn
        masking = of("masking_strategy_vitb16_one_percent")
        assert published(f"ablation_masking{suffix}") == masking
    assert published("ablation_prototypes") == of("table12_prototypes_vitb16_one_percent")
    ratios = {
        f"{model}, {float(ratio):g}": None if accuracy == "NaN" else accuracy
        for model, found in tables["masking_ratio_one_percent"].items()
        for ratio, accuracy in found.items()
    }
    runs = read("ablation_mask_ratio").runs
    assert {run.label: run.published for run in runs} == ratios
    for run in runs:
        model, ratio = run.label.split(", ")
        assert run.cfg.model.mask_ratio.anchor == float(ratio)
        size = model.removeprefix("ViT-").replace("/", "").lower()
        assert run.config == f"configs/msn_vit{size}.py"


def test_the_photographs_lie_where_the_command_says(tmp_path: Path) -> None:
    train = tmp_path / "train"
    sweep = read_sweep(
        FOLDER / "reference_views_photographs.py", None, {"data_root": str(train)}, []
    )
    fast, slow = (run.cfg for run in sweep.runs)
    for cfg in (fast, slow):
        assert cfg.train_dataloader.dataset.dataset.data_root == str(train)
        assert cfg.val_dataloader.dataset.support.data_root == str(train)
        assert cfg.val_dataloader.dataset.query.data_root == str(tmp_path / "test")
    transforms = [cfg.train_dataloader.dataset.transform for cfg in (fast, slow)]
    assert transforms[1].pop("reference") is True and "reference" not in transforms[0]
    assert transforms[0] == transforms[1]
