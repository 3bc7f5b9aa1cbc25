from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from msn_mm.errors import UserError
from msn_mm.evaluation.checkpoint import load_weights, read_weights


class _Harmful:
    def __reduce__(self) -> tuple:
        return (print, ("code ran",))


def _save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_all_weights_arrive(tmp_path: Path) -> None:
    source, target = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    source(torch.randn(8, 3))
    path = _save(tmp_path / "a.pth", {"state_dict": source.state_dict(), "meta": {"epoch": 1}})
    load_weights(target, read_weights(path), path)
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


def test_unreadable_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"no such checkpoint: '.*absent\.pth'"):
        read_weights(tmp_path / "absent.pth")
    whole = _save(tmp_path / "whole.pth", {"state_dict": {"w": torch.zeros(1000)}})
    torn = tmp_path / "torn.pth"
    torn.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(UserError, match="not a whole checkpoint"):
        read_weights(torn)
    with pytest.raises(UserError, match="could run code"):
        read_weights(_save(tmp_path / "code.pth", {"state_dict": {"w": _Harmful()}}))
    assert "code ran" not in capsys.readouterr().out
    with pytest.raises(UserError, match="no named tensors: it holds a list"):
        read_weights(_save(tmp_path / "list.pth", [1, 2]))
    with pytest.raises(UserError, match="no 'state_dict'"):
        read_weights(_save(tmp_path / "epoch.pth", {"epoch": 1, "model": {"w": torch.ones(1)}}))


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match=r"weight is \(2, 4\) there and \(2, 3\) here"):
        load_weights(model, nn.Linear(4, 2).state_dict(), "x.pth")
    with pytest.raises(UserError, match="lacks 1 weights such as bias"):
        load_weights(model, nn.Linear(3, 2, bias=False).state_dict(), "x.pth")
    extra = {**nn.Linear(3, 2).state_dict(), "head.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=r"1 weights that the model lacks, such as head\.weight"):
        load_weights(model, extra, "x.pth")
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
