"""What makes two encoders different for the cache."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from msn_mm.evaluation.fingerprint import fingerprint


class Net(nn.Module):
    """A layer with settings of many kinds."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4)
        self.register_buffer("hidden", settings.pop("hidden", torch.zeros(2)), persistent=False)
        for name, value in settings.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (dict(heads=2), dict(heads=4)),
        (dict(_heads=2), dict(_heads=4)),
        (dict(sizes=(1, 2)), dict(sizes=(2, 1))),
        (dict(options={"eps": 1e-6}), dict(options={"eps": 1e-5})),
        (dict(scale=torch.ones(2)), dict(scale=torch.zeros(2))),
        (dict(hidden=torch.ones(2)), dict(hidden=torch.zeros(2))),
        (
            dict(act=partial(functional.leaky_relu, negative_slope=0.1)),
            dict(act=partial(functional.leaky_relu, negative_slope=0.2)),
        ),
        (dict(act=functional.relu), dict(act=functional.gelu)),
    ],
)
def test_settings_that_weights_do_not_tell(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(Net(**one), {}) == fingerprint(Net(**one), {})
    assert fingerprint(Net(**one), {}) != fingerprint(Net(**other), {})


def test_weights_and_what_is_said_beside_them() -> None:
    net = Net()
    before = fingerprint(net, {"norm": False})
    assert before != fingerprint(net, {"norm": True})
    assert before == fingerprint(net.train(not net.training), {"norm": False})
    with torch.no_grad():
        net.layer.weight[0, 0] += 1
    assert before != fingerprint(net, {"norm": False})


def test_an_edited_model_is_another(tmp_path: Path) -> None:
    def load(factor: int) -> None:
        file = tmp_path / "mine.py"
        file.write_text(
            "from torch import nn\nclass Mine(nn.Module):\n"
            f"    def forward(self, x):\n        return x * {factor}\n"
        )
        spec = importlib.util.spec_from_file_location("mine", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(__import__("sys").modules, "mine", module)
            spec.loader.exec_module(module)
            marks.append(fingerprint(module.Mine(), {}))

    marks: list[str] = []
    for factor in (2, 2, 3):
        load(factor)
    assert marks[0] == marks[1] != marks[2]
