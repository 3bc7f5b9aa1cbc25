"""A wrapper that scales its loss goes on with the scale that it had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from msn_mm.engine.optim.group_optim_wrapper import GroupOptimWrapper
from msn_mm.registry import OPTIM_WRAPPERS
from tests.helpers import run, tiny_digits


@OPTIM_WRAPPERS.register_module(force=True)
class ScalingWrapper(GroupOptimWrapper):
    """The state of MMEngine's ``AmpOptimWrapper``, which refuses a CPU: a scaler's beside."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Scale, differentiate, and let the scale grow; gradients keep their size."""
        super().backward(loss, **kwargs)
        self.loss_scaler.scale(loss.detach())
        self.loss_scaler._per_optimizer_states[0]["found_inf_per_device"] = {
            torch.device("cpu"): torch.zeros(())
        }
        self.loss_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "loss_scaler": self.loss_scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        state = dict(state)
        self.loss_scaler.load_state_dict(state.pop("loss_scaler"))
        super().load_state_dict(state)


def test_the_scale_of_the_loss_goes_on(tmp_path: Path) -> None:
    options = {"default_hooks.checkpoint.interval": 1, "optim_wrapper.type": "ScalingWrapper"}
    whole = run(tiny_digits(**options), tmp_path / "whole")
    resumed = run(
        tiny_digits(**options), tmp_path / "again", resume=tmp_path / "whole" / "epoch_2.pth"
    )
    scales = [runner.optim_wrapper.loss_scaler.state_dict() for runner in (whole, resumed)]
    assert scales[0] == scales[1]
    # 12 steps, doubled every third: neither the first scale nor that of four steps alone
    assert scales[0]["scale"] == 8.0 * 2**4
