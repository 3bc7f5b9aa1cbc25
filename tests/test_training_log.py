"""What a training says: the log file has all of it, the terminal what happens."""

from __future__ import annotations

import json
import logging
import re
import warnings
from pathlib import Path

import pytest
import torch

from msn_mm.engine.log_files import quieten
from tests.helpers import run, tiny_digits


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[str]]:
    """A training of two epochs that validates: its directory, what it printed, its warnings."""
    root = tmp_path_factory.mktemp("trained")
    options = {
        "train_cfg.max_epochs": 2,
        "train_cfg.val_interval": 1,
        "train_dataloader.pin_memory": True,
        "val_dataloader.pin_memory": True,
        "default_hooks.logger.interval": 2,
        "default_hooks.checkpoint.interval": 1,
    }
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lines: list[str] = []
        patch.setattr("sys.stdout.write", lambda text: lines.append(text))
        run(tiny_digits(**options), root)
    return root, "".join(lines), [str(one.message) for one in caught]


def test_the_terminal_shows_what_happens_and_the_file_holds_all(
    trained: tuple[Path, str, list[str]],
) -> None:
    root, said, _ = trained
    (log,) = root.glob("*/*.log")
    written = log.read_text()
    for begins in ("System environment:", "Config:\n", "Hooks will be executed in the following"):
        assert begins in written and begins not in said
    assert re.search(r"^global_batch_size ?= ?16$", written, re.MULTILINE)
    assert "OpenCV: " in written
    assert f"environment, config and hooks: {log}" in said
    first = next(n for n, line in enumerate(said.splitlines()) if "Epoch(train) [1]" in line)
    assert first < 12


def test_nothing_is_warned_of_that_nobody_can_mend(
    trained: tuple[Path, str, list[str]],
) -> None:
    root, said, caught = trained
    (log,) = root.glob("*/*.log")
    assert " - WARNING - " not in log.read_text() and " - WARNING - " not in said
    assert torch.cuda.is_available() or not [text for text in caught if "pin_memory" in text]
    # where there is a GPU the same config pins
    (config,) = root.glob("*/vis_data/config.py")
    assert len(re.findall(r"pin_memory=True", config.read_text())) == 2


def test_a_validation_s_times_have_tags_of_their_own(
    trained: tuple[Path, str, list[str]],
) -> None:
    root, _, _ = trained
    (scalars,) = root.glob("*/vis_data/scalars.json")
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    training = [record for record in records if "iter" in record]
    validations = [record for record in records if "iter" not in record]
    assert [record["step"] for record in training] == [2, 4, 6, 8]
    assert [record["step"] for record in validations] == [1, 2]
    assert all({"time", "data_time"} <= record.keys() for record in training)
    for record in validations:
        assert {"val/time", "val/data_time"} <= record.keys()
        assert not {"time", "data_time"} & record.keys()


def test_a_line_that_cannot_be_put_into_words_ends_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("of this test")
    logger.propagate = False
    logger.addHandler(logging.StreamHandler())
    quieten(logger)
    logger.warning("%d images", "three")
    assert "Logging error" in capsys.readouterr().err
