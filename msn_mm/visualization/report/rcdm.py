"""Section: images that RCDM made from representations, where tools/rcdm.py has been run."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from msn_mm.errors import UserError
from msn_mm.visualization.page_parts import Markup, Section, joined
from msn_mm.visualization.report.run import Run
from msn_mm.visualization.report.sprite import encoded

_MOST, _WIDEST = 6, 1400


def section(run: Run) -> Section:
    """Show the grids beside each result of tools/rcdm.py.

    Raises:
        UserError: There are none.
    """
    figures = []
    for one in run.work.results_of("rcdm"):
        for path in sorted(one.path.parent.glob("*.png"))[:_MOST]:
            figures.append(_figure(path))
    if not figures:
        raise UserError(
            f"no pictures of RCDM lie under {run.work.path}; tools/rcdm.py draws them (with --out "
            f"{run.work.path}/rcdm, or name its directory by --results)"
        )
    return Section("rcdm", "RCDM images", joined(figures))


def _figure(path: Path) -> Markup:
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read picture {path}: {error}") from error
    image.thumbnail((_WIDEST, 4 * _WIDEST))
    return Markup(
        '<figure class="sheet"><img src="{}" alt="RCDM grid {}" width="{}" height="{}">'
        "<figcaption>{}</figcaption></figure>\n"
    ).format(Markup(encoded(image, 82)), path.stem, image.width, image.height, path)
