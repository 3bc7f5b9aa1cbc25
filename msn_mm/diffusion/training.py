"""From a config and an encoder to a trained RCDM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.runner import Runner

from msn_mm.diffusion.rcdm import RCDM
from msn_mm.engine.distributed import collective_timeout, init_distributed
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.errors import UserError
from msn_mm.evaluation.checkpoint import settled_checkpoint


def train_rcdm(
    config: str,
    backbone: str | None,
    backbone_config: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    **launch: Any,
) -> Runner:
    """Train an RCDM to its end.

    Args:
        config: Of an RCDM.
        backbone: The encoder's weights; None for those that its config builds. The
            runner's config names the file, of a training's directory the newest whole one.
        backbone_config: The encoder's config; None for the one that ``config`` names.
        cfg_options: Changes of ``config``.
        **launch: As :func:`~msn_mm.engine.launch.build_runner`.

    Raises:
        UserError: A mistake in the config, the encoder or the data.
    """
    cfg = load_config(config, cfg_options)
    model = cfg.get("model") or {}
    if model.get("type") != RCDM.__name__:
        raise UserError(
            f"{config} trains no RCDM but {model.get('type')}; give a config such as rcdm_128.py"
        )
    encoder = model.setdefault("encoder", {})
    if backbone_config is not None:
        encoder["config"] = backbone_config
    init_distributed(launch.get("launcher", "none"), collective_timeout(cfg))
    encoder["checkpoint"] = settled_checkpoint(backbone)
    runner = build_runner(cfg, **launch)
    train(runner)
    return runner
