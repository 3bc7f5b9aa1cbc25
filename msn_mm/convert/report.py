"""What became of a checkpoint, told to its user."""

from __future__ import annotations

from collections.abc import Sequence

from msn_mm.convert.format import Converted
from msn_mm.convert.writer import Written


def reading_report(converted: Converted, source: str) -> str:
    """Tell format, architecture, and what was used, ignored or missing; a few lines."""
    heads = []
    if "weight" in converted.classifier:
        heads.append(f"a classifier of {converted.classifier['weight'].shape[0]:,} classes")
    if any(name.startswith("projector.") for name in converted.extras):
        heads.append("a projector")
    if "prototypes" in converted.extras:
        heads.append(f"{len(converted.extras['prototypes']):,} prototypes")
    lines = [
        f"{source}: format '{converted.format}'",
        f"architecture: {converted.architecture.describe()}",
        f"used: {converted.used:,} tensors"
        + (f", among them {', '.join(heads)}" if heads else ", all of the backbone"),
    ]
    if converted.ignored:
        lines.append(f"ignored: {_names(converted.ignored)}")
    if converted.missing:
        lines.append(f"missing: {_names(converted.missing)}")
    return "\n".join(lines)


def writing_report(written: Written) -> str:
    """Tell what was written, what had no place in it, and how to load it."""
    lines = [f"written: {written.path}"]
    if written.left_out:
        lines.append(f"left out: {_names(written.left_out)}")
    lines += [f"note: {note}" for note in written.notes]
    return "\n".join([*lines, f"load it by: {written.use}"])


def _names(names: Sequence[str], most: int = 4) -> str:
    few = ", ".join(names[:most])
    return few if len(names) <= most else f"{len(names):,} tensors: {few}, ..."
