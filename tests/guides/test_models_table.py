"""The README's table of models against the configs and the paper."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from msn_mm.engine.launch import load_config
from msn_mm.utils.dry_run import make_plan
from tests.guides.blocks import ROOT, TEXT

SHARED = Path(os.environ.get("MSN_MM_SHARED", ROOT.parent / "shared"))


def _rows() -> list[list[str]]:
    """Config, mask, epochs, tokens, low-shot and 1 % accuracy of the table of models."""
    lines = [
        line for line in TEXT["README.md"].splitlines() if line.startswith("| `configs/msn_vit")
    ]
    return [[cell.strip("` ") for cell in line.strip("|").split("|")] for line in lines]


ROWS = _rows()


def test_the_table_of_models_is_complete() -> None:
    shown = {Path(row[0]).stem for row in ROWS}
    shipped = {path.stem for path in (ROOT / "configs").glob("msn_vit*.py")}
    variants = {name for name in shipped if name.endswith(("_released", "_fsdp"))}
    assert shown == shipped - variants - {"msn_vith14"}  # not of the paper


@pytest.mark.parametrize("row", ROWS, ids=lambda row: Path(row[0]).stem)
def test_the_table_of_models_tells_what_the_configs_hold(row: list[str]) -> None:
    config, mask, epochs, tokens = row[:4]
    plan = make_plan(load_config(config))
    assert plan.cfg.model.mask_ratio == {"anchor": float(mask)}
    assert plan.cfg.train_cfg.max_epochs == int(epochs.split()[0])
    assert [view.tokens for view in plan.views] == [int(number) for number in tokens.split(",")]


@pytest.mark.skipif(not (SHARED / "paper" / "tables.json").is_file(), reason="no tables here")
def test_the_table_of_models_quotes_the_paper() -> None:
    tables = json.loads((SHARED / "paper" / "tables.json").read_text())
    few = {
        key.split()[1]: value
        for key, value in tables["low_shot_images_per_class"].items()
        if key.startswith("MSN")
    }
    names = {"s": "ViT-S/", "b": "ViT-B/", "l": "ViT-L/"}
    for config, *_, low_shot, one_percent in ROWS:
        kind, patch, variant = re.fullmatch(
            r"msn_vit([sbl])(\d+)(_\w+)?", Path(config).stem
        ).groups()
        model = names[kind] + patch
        if low_shot:
            quoted = [float(x) for x in re.findall(r"\d+\.\d", low_shot)]
            assert quoted == [few[model][shots][0] for shots in ("1", "2", "5")]
        sinkhorn = tables["table11_sinkhorn_vits16_one_percent"]
        special = {
            "msn_vits16": sinkhorn["Sinkhorn, lambda 1"],
            "msn_vits16_nosinkhorn": sinkhorn["None, lambda 5"],
            "msn_vitl16": tables["masking_ratio_one_percent"]["ViT-L/16"]["0.5"],
        }
        if one_percent:
            stem = f"msn_vit{kind}{patch}{variant or ''}"
            published = special.get(stem) or tables["one_percent"][f"MSN {model}"]
            assert float(one_percent) == published


def test_the_released_recipe_differs_as_told() -> None:
    plan = make_plan(load_config("msn_vits16_released"))
    rate, decay, momentum = plan.schedules
    assert momentum.last == 0.9992 and decay.last < 0.4 and rate.last > 1e-5
    assert plan.cfg.optim_wrapper.clip_grad.max_norm == 3.0
    assert plan.cfg.model.shared_mask
    assert {s.stretch for s in plan.cfg.param_scheduler[1:]} == {1.25}
    assert plan.cfg.param_scheduler[1].eta_min == 1e-6
