"""Section: what ran, on what, for how long."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from msn_mm.errors import UserError
from msn_mm.visualization.page_parts import (
    Download,
    Markup,
    Section,
    code,
    details,
    joined,
    pairs,
    paragraph,
)
from msn_mm.visualization.report.run import Run


def section(run: Run) -> Section:
    """Tell config, versions, machine and time of a run."""
    body: list[Markup] = [pairs(facts(run).items())]
    if run.work.earlier_trainings:
        begun = when(run.work.starts[0].name)
        text = f"The page shows the training that was begun anew here at {begun}; left out: "
        body.insert(0, paragraph(text + _earlier(run.work.earlier_trainings) + ".", "note"))
    downloads = []
    try:
        text = run.work.cfg.pretty_text
        body.append(details("The whole config", code(text)))
        downloads.append(Download("config.py", text, "text/x-python"))
    except UserError as error:
        body.append(paragraph(error, "missing"))
    environment = run.work.environment
    if environment:
        body.append(Markup("<h3>Versions and machine</h3>"))
        body.append(pairs(environment.items()))
        downloads.append(
            Download("environment.json", json.dumps(environment, indent=1), "application/json")
        )
    return Section("overview", "What ran", joined(body), downloads)


def facts(run: Run) -> dict[str, Any]:
    """Return what tells one run from another, by name; unknown ones are None."""
    work = run.work
    found: dict[str, Any] = {}
    try:
        cfg = work.cfg
        model = cfg.get("model") or {}
        backbone = model.get("backbone") or {}
        schedule = cfg.get("train_cfg") or {}
        optimizer = (cfg.get("optim_wrapper") or {}).get("optimizer") or {}
        found |= {
            "method": model.get("type"),
            "backbone": _backbone(backbone),
            "epochs planned": schedule.get("max_epochs") or schedule.get("max_iters"),
            "global batch": cfg.get("global_batch_size"),
            "learning rate": optimizer.get("lr"),
            "optimizer": optimizer.get("type"),
            "seed": (cfg.get("randomness") or {}).get("seed"),
        }
    except UserError:
        pass
    meta = work.saved.get("meta") or {}
    found["epochs trained"] = meta.get("epoch")
    found["iterations"] = meta.get("iter")
    found["trained for"] = duration(meta.get("seconds"))
    if work.starts:
        found["started"] = when(work.starts[0].name)
        found["resumed"] = _times(work.resumes)
    if work.earlier_trainings:
        found["left out"] = _earlier(work.earlier_trainings)
    saved_at = meta.get("saved_at")
    if isinstance(saved_at, int | float) and saved_at > 0:
        found["last saved"] = datetime.fromtimestamp(saved_at).strftime("%Y-%m-%d %H:%M")
    try:
        found["checkpoint"] = str(work.checkpoint)
    except UserError as error:
        found["checkpoint"] = str(error)
    found["config"] = None if work.config_path is None else str(work.config_path)
    return found


def duration(seconds: Any) -> str | None:
    """Word a number of seconds; None for what is none."""
    if not isinstance(seconds, int | float):
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def _earlier(count: int) -> str:
    return f"{count} earlier training{'s' * (count > 1)} of this directory"


def when(start: str) -> str:
    """Word the name of a start's directory, ``20261128_135834``."""
    try:
        return datetime.strptime(start, "%Y%m%d_%H%M%S").strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return start


def _backbone(backbone: dict[str, Any]) -> str | None:
    if not backbone:
        return None
    sizes = [
        f"{key.replace('_', ' ')} {backbone[key]}"
        for key in ("patch_size", "embed_dim", "depth", "num_heads", "img_size")
        if backbone.get(key) is not None
    ]
    name = backbone.get("name") or backbone.get("model_name") or backbone.get("type")
    return f"{name}{': ' if sizes else ''}{', '.join(sizes)}"
