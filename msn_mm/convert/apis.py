"""The calls that a notebook needs of checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from msn_mm.convert.format import convert, load_trunk
from msn_mm.convert.report import reading_report
from msn_mm.convert.source import read_source


def load_backbone(
    source: str | Path,
    arch: Mapping[str, Any] | None = None,
    *,
    format: str = "auto",
    sha256: str | None = None,
    verbose: bool = True,
) -> nn.Module:
    """Load the image encoder of any checkpoint whose format is known.

    Args:
        source: A file, a Hugging Face directory, or an ``http(s)`` address; see
            :func:`msn_mm.convert.source.read_source`.
        arch: What the weights do not tell (``heads``, ``image_size``), where it
            is not the published model's.
        format: The format's name, or ``auto`` to recognise it.
        sha256: Hash that an address's file must have, or the beginning of one.
        verbose: Tell on standard error what was recognised, used and ignored.

    Returns:
        The backbone in evaluation mode, without gradients, on the host. It maps
        normalised images ``(B, C, H, W)`` to ``(B, D)``; of a ViT that is the
        CLS token after the final norm, and ``forward_intermediates`` gives CLS
        and patch tokens of its last blocks.

    Raises:
        UserError: There is no such checkpoint, or none of a known format.
    """
    raw = read_source(source, sha256)
    converted = convert(raw, format, arch)
    trunk = load_trunk(converted, str(source))
    if verbose:
        print(reading_report(converted, str(source)), file=sys.stderr)
    return trunk
