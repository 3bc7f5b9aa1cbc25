"""Fixtures of the tests of sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from msn_mm.engine.launch import load_config
from msn_mm.evaluation.encoder import build_model
from tests.sweeps.place import TINY, Place


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint of the tiny model."""
    cfg = load_config("configs/msn_digits.py", TINY)
    state = build_model(cfg.model, 7, wants_weights=True).state_dict()
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    meta = {"epoch": 1, "iter": 20}
    torch.save({"state_dict": state, "optimizer": {}, "message_hub": {}, "meta": meta}, path)
    return path


@pytest.fixture
def place(tmp_path: Path, weights: Path) -> Iterator[Place]:
    yield Place(tmp_path, weights)
