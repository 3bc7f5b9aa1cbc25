"""From directories of trainings to one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msn_mm
from msn_mm.errors import UserError
from msn_mm.visualization.page_parts import Markup, Section, joined, paragraph, render_page
from msn_mm.visualization.report import (
    attention,
    comparison,
    evaluations,
    feature_map,
    masking,
    overview,
    prototypes,
    rcdm,
    training_curves,
    troubles,
)
from msn_mm.visualization.report.run import Run

# In the order of the page: anchor, title, what makes it. A section that cannot be made
# says why in its place.
_SECTIONS: tuple[tuple[str, str, Callable[[Run], Section]], ...] = (
    ("overview", "What ran", overview.section),
    ("curves", "Training curves", training_curves.section),
    ("evaluations", "Evaluations", evaluations.section),
    ("attention", "Attention maps", attention.section),
    ("prototypes", "Prototypes", prototypes.section),
    ("map", "Map of the features", feature_map.section),
    ("masking", "Masking", masking.section),
    ("rcdm", "RCDM images", rcdm.section),
    ("troubles", "Troubles", troubles.section),
)
_COMPARISON: tuple[tuple[str, str, Callable[[Sequence[Run]], Section]], ...] = (
    ("overview", "What ran", comparison.overview),
    ("differences", "Settings that differ", comparison.differences),
    ("curves", "Training curves", comparison.curves),
    ("evaluations", "Evaluations", comparison.evaluations),
    ("masking", "Masking", comparison.masking),
    ("map", "Maps of the features", comparison.maps),
)


@dataclass(frozen=True)
class Page:
    """A page that is made.

    Attributes:
        html: The whole file.
        missing: By section why it shows nothing.
        shown: The other sections.
    """

    html: str
    missing: dict[str, str]
    shown: list[str]


def build_page(runs: Sequence[Run], tell: Callable[[str], None] = lambda _: None) -> Page:
    """Make the page of one training, or the comparison of several.

    Args:
        runs: The trainings.
        tell: Is told what is being made.
    """
    plan: list[tuple[str, str, Callable[[], Section]]]
    if len(runs) == 1:
        title = f"Training report: {runs[0].name}"
        plan = [(id, name, partial(make, runs[0])) for id, name, make in _SECTIONS]
    else:
        title = f"Comparison: {', '.join(run.name for run in runs)}"
        plan = [(id, name, partial(make, runs)) for id, name, make in _COMPARISON]
    sections, missing = [], {}
    for id, name, make in plan:
        tell(name)
        try:
            sections.append(make())
        except UserError as error:
            missing[id] = str(error)
            sections.append(
                Section(id, name, paragraph(Markup("Not here: {}.").format(error), "missing"))
            )
    lead = joined(
        [
            *(run.sprite.style() for run in runs if "sprite" in vars(run)),
            paragraph(", ".join(str(run.work.path) for run in runs), "note"),
        ]
    )
    footer = Markup("Made by msn_mm {} without a network; everything is in this file.").format(
        msn_mm.__version__
    )
    html = render_page(title, lead, sections, footer)
    return Page(html, missing, [s.id for s in sections if s.id not in missing])
