"""Rows of a comparison: names, mistakes, and who measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from msn_mm.errors import UserError
from msn_mm.evaluation.rows import Row, measured_rows, read_rows
from msn_mm.utils.cli import ArgumentParser, add_cfg_options, add_out
from msn_mm.utils.protocol_options import add_rows, check_rows

DIGITS, CIFAR = "configs/msn_digits.py", "configs/msn_cifar10.py"


def rows_of(*words: str | Path) -> list[Row]:
    parser = ArgumentParser(prog="tool.py")
    add_rows(parser)
    add_cfg_options(parser)
    add_out(parser, "nowhere")
    args = parser.parse_args([str(word) for word in words])
    check_rows(args)
    return read_rows(args)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "one" / "a.pth", tmp_path / "two" / "a.pth", tmp_path / "two" / "b.pth"]
    for file in found:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"\x80")
    return found


def test_rows_are_named_by_the_shortest_difference(files: list[Path]) -> None:
    one, two, other = files
    assert [row.name for row in rows_of(DIGITS, one, other)] == ["a.pth", "b.pth"]
    assert [row.name for row in rows_of(DIGITS, one, two)] == [
        f"msn_digits: {one}",
        f"msn_digits: {two}",
    ]
    named = rows_of(DIGITS, one, "none", "--row", CIFAR, two, "--row", CIFAR, other, "mine")
    assert [row.name for row in named] == [
        "msn_digits: a.pth",
        "msn_digits, untrained",
        "msn_cifar10: a.pth",
        "mine",
    ]
    assert [row.checkpoint for row in named] == [str(one), None, str(two), str(other)]
    assert [Path(row.cfg.filename).stem for row in named[1:3]] == ["msn_digits", "msn_cifar10"]


def test_names_are_taken_and_must_differ(files: list[Path]) -> None:
    one, two, _ = files
    assert [row.name for row in rows_of(DIGITS, one, two, "--names", "x", "y")] == ["x", "y"]
    with pytest.raises(UserError, match=r"two rows are called 'x'.*--names"):
        rows_of(DIGITS, one, two, "--names", "x", "x")
    with pytest.raises(UserError, match=r"1 names for 2 checkpoints"):
        rows_of(DIGITS, one, two, "--names", "x")


def test_options_concern_the_first_config(files: list[Path]) -> None:
    words = (DIGITS, files[0], "--row", DIGITS, files[2])
    first, second = rows_of(*words, "--cfg-options", "model.backbone.depth=7")
    assert (first.cfg.model.backbone.depth, second.cfg.model.backbone.depth) == (7, 4)


def test_mistakes_are_told_before_any_work(files: list[Path]) -> None:
    with pytest.raises(UserError, match=r"no such checkpoint: 'gone.pth'; .*'none'"):
        rows_of(DIGITS, files[0], "gone.pth")
    with pytest.raises(UserError, match="--row takes CONFIG CHECKPOINT"):
        rows_of(DIGITS, files[0], "--row", CIFAR)
    with pytest.raises(UserError, match="no such config"):
        rows_of(DIGITS, files[0], "--row", "configs/gone.py", "none")


def test_one_process_takes_row_by_row(files: list[Path]) -> None:
    seen: list[str] = []
    rows = rows_of(DIGITS, files[0], files[2])

    def extract(row: Row) -> int:
        seen.append(f"extract {row.name}")
        return len(seen)

    for row, features in measured_rows(rows, extract):
        seen.append(f"measure {row.name} {features}")
    assert seen == ["extract a.pth", "measure a.pth 1", "extract b.pth", "measure b.pth 3"]
