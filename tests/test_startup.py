"""A training loads what it uses: no model zoo, no plotting, no statistics before the first step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What takes long to import and has no part in a first step.
UNUSED = ("sklearn", "scipy", "matplotlib", "transformers", "cyanure", "onnx", "diffusers")
ZOO = ("mmpretrain.models", "mmpretrain.datasets", "mmpretrain.engine", "mmpretrain.evaluation")


def test_what_is_loaded_at_the_first_step(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = ['benchmarks']\n"
        "from startup import modules_at_first_step\n"
        f"print(*modules_at_first_step('configs/msn_digits.py', {str(tmp_path)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = set(done.stdout.split())
    assert "msn_mm.models.methods.msn" in loaded and "torch" in loaded
    assert not loaded & {*UNUSED, *ZOO}


def test_transformers_is_hidden_only_where_it_is_not_loaded() -> None:
    from msn_mm.hidden_imports import hidden

    with hidden("sys", "xdrlib_of_none"):
        assert sys.modules["sys"] is sys
        with pytest.raises(ImportError):
            __import__("xdrlib_of_none")
    assert "xdrlib_of_none" not in sys.modules


def test_adafactor_is_transformers_and_torch_s_has_its_own_name() -> None:
    import torch

    from msn_mm.registry import OPTIMIZERS

    transformers = pytest.importorskip("transformers")
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    built = OPTIMIZERS.build(dict(type="Adafactor", params=[parameter], lr=None))
    assert isinstance(built, transformers.Adafactor)
    other = OPTIMIZERS.build(dict(type="TorchAdafactor", params=[parameter]))
    assert isinstance(other, torch.optim.Adafactor)


def test_adafactor_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    from msn_mm.errors import UserError
    from msn_mm.registry import OPTIMIZERS

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'msn_mm\[hf\]'"):
        OPTIMIZERS.build(dict(type="Adafactor", params=[]))
