"""What all tests share: speed on small work, and quiet configs."""

from __future__ import annotations

import gc

import pytest
import torch

# Tests compute on toy sizes, where a second thread only waits. Set once, before
# anything runs: changing it later is not safe beside other users of OpenMP.
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def small_heap_to_collect():
    """Keep what is imported out of the garbage collections that MMEngine asks of each data set."""

    import msn_mm.engine  # noqa: F401

    gc.freeze()


@pytest.fixture(autouse=True)
def plain_config_text(monkeypatch):
    """Leave configs unformatted in logs: yapf takes seconds for each runner that is built."""
    import mmengine.config.config as module

    monkeypatch.setattr(module, "FormatCode", lambda text, **_: (text, True))
