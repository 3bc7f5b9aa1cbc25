"""What a folder's images hold, in a table, and the config that reads them so."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from msn_mm.datasets.decode import printable
from msn_mm.datasets.image_statistics import OUTSIDE, FolderStatistics
from msn_mm.utils.results import format_table

_WIDTH = 96


def statistics_report(found: FolderStatistics, folder: str | Path) -> str:
    """Return table, sentences and config."""
    rows = []
    for c in range(found.channels):
        low, high = (0, 255) if found.window is None else found.window[c]
        rows.append(
            [
                str(c + 1),
                f"{found.lowest[c]} to {found.highest[c]}",
                f"{low:g} to {high:g}",
                f"{(high - low) / 255:.2f}",
                f"{found.mean[c]:.2f}",
                f"{found.std[c]:.2f}",
            ]
        )
    header = ["channel", "values", "window", "a step of 255", "mean", "std"]
    lines = [
        f"{found.sampled:,} of {found.total:,} images of {folder}: {found.channels} channel(s), "
        f"{found.bits} bits",
        "",
        format_table(header, rows),
        "",
    ]
    if found.window is not None:
        lines.append(
            _wrap(
                "The window becomes 0 to 255. What is lost: values outside it, up to "
                f"{OUTSIDE:.1%} at each end, are clipped, and differences below a step vanish."
            )
        )
    lines += [_wrap(f"Note: {note}.") for note in found.notes]
    if found.errors:
        path, why = next(iter(found.errors.items()))
        lines.append(f"{len(found.errors):,} files cannot be read, the first: {printable(path)}")
        lines.append(f"  {why}")
    return "\n".join([*lines, "", "For a config of your own:", "", config_text(found, folder)])


def config_text(found: FolderStatistics, folder: str | Path) -> str:
    """Return a config's lines that read, normalise and train on such images."""
    reading = f"channels={found.channels}"
    if found.window is not None:
        reading += f", window={_window(found)}"
    model = f"data_preprocessor=dict(mean={list(found.mean)}, std={list(found.std)})"
    if found.channels != 3:
        model += f", backbone=dict(in_chans={found.channels})"
    return "\n".join(
        [
            '_base_ = ["./msn_folder.py"]',
            "",
            f"data_root = {json.dumps(str(folder), ensure_ascii=False)}",
            f"_reading = dict({reading})",
            f"model = dict({model})",
            "train_dataloader = dict(dataset=dict(transform=_reading))",
        ]
    )


def _window(found: FolderStatistics) -> list[list[int]]:
    assert found.window is not None
    pairs = found.window[:1] if len(set(found.window)) == 1 else found.window
    return [[int(low), int(high)] for low, high in pairs]


def _wrap(text: str) -> str:
    return textwrap.fill(text, _WIDTH)
