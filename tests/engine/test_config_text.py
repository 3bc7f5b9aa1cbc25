"""A config that is formatted once says what MMEngine's says, changes included."""

from __future__ import annotations

import copy

import pytest
from mmengine.config import Config

from msn_mm.engine import config_text
from msn_mm.engine.config_text import formatted_once
from msn_mm.engine.launch import load_config


def test_it_says_what_mmengine_s_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_text, "_TEXTS", type(config_text._TEXTS)())
    formats: list[str] = []
    plain = Config.pretty_text.fget
    assert plain is not None

    def counted(cfg: Config) -> str:
        formats.append(plain(cfg))
        return formats[-1]

    monkeypatch.setattr(Config, "pretty_text", property(counted))
    cfg = load_config("configs/msn_digits.py")
    once = formatted_once(cfg)
    want = plain(cfg)
    assert once.pretty_text == copy.deepcopy(once).pretty_text == once.dump() == want
    assert len(formats) == 1
    once.model.backbone.depth = 7
    assert once.pretty_text != want and "depth=7" in once.pretty_text
    assert len(formats) == 2 and "depth=7" not in cfg.pretty_text
    for depth in range(20):
        once.model.backbone.depth = depth
        assert f"depth={depth}" in once.pretty_text
    assert len(config_text._TEXTS) == config_text._MOST_TEXTS
