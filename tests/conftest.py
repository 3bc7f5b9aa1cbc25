"""Fixtures for all tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def plain_config_text(monkeypatch):
    """Leave configs unformatted in logs: yapf takes seconds for each runner that is built."""
    import mmengine.config.config as module

    monkeypatch.setattr(module, "FormatCode", lambda text, **_: (text, True), raising=True)
