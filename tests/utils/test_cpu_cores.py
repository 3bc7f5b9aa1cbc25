"""How many CPU cores a process may use, and the data workers that follow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from msn_mm.auto_pretraining.machine import look_at_machine
from msn_mm.utils import cpu_cores
from msn_mm.utils.protocol_options import default_workers


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_container_s_quota(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_cores.cpu_quota(tmp_path / "cpu.max", tmp_path / "cpu") == quota


def test_workers_and_the_machine_follow_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(cpu_cores, "_CPU_QUOTA", (quota, tmp_path / "cpu"))
    assert default_workers() == look_at_machine().cores == 6
    quota.write_text("250000 100000\n")
    assert default_workers() == look_at_machine().cores == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert default_workers() == 1
