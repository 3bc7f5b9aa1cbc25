"""A config's type, however it is written."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from torch.optim import AdamW

from msn_mm.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from msn_mm.engine.run_parts import use_safe_checkpoints
from msn_mm.utils.config_types import builds

KINDS = ("CheckpointHook", "mmengine.CheckpointHook", CheckpointHook)


def test_names_scopes_and_classes() -> None:
    for kind in (*KINDS, "mmengine.hooks.CheckpointHook"):
        assert builds({"type": kind}, "CheckpointHook")
    for kind in ("other.CheckpointHook", "MyCheckpointHook", AdamW, "mmengine.hooks.x"):
        assert not builds({"type": kind}, "CheckpointHook", "AdamW")
    assert builds({}, "CheckpointHook", default="CheckpointHook") and not builds({}, "A")


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_are_safe_however_the_hook_is_named(kind: str | type) -> None:
    cfg = Config(dict(default_hooks=dict(checkpoint=dict(type=kind, interval=3))))
    use_safe_checkpoints(cfg)
    assert cfg.default_hooks.checkpoint == dict(type=SafeCheckpointHook.__name__, interval=3)
