"""Section: the prototypes, each by the images nearest to it.

Shapes: n images, K prototypes, P width of projections.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError
from msn_mm.visualization.page_parts import (
    Download,
    Markup,
    Section,
    csv_of,
    joined,
    pairs,
    paragraph,
)
from msn_mm.visualization.report.run import Run

SHOWN, NEAREST = 16, 8
# Numbers of a block of scores that is held at a time: 64 MiB in float32.
_BLOCK = 2**24


class Assignment(NamedTuple):
    """To which prototypes images belong.

    Attributes:
        best: ``(n,)`` the prototype with the highest score of each image.
        counts: ``(K,)`` how many images each is the best of.
    """

    best: NDArray[np.int64]
    counts: NDArray[np.int64]


def assign(projections: NDArray[np.floating], prototypes: NDArray[np.floating]) -> Assignment:
    """Give each image to the prototype with the highest score.

    Args:
        projections: ``(n, P)``.
        prototypes: ``(K, P)``.
    """
    step = max(1, _BLOCK // len(prototypes))
    best = np.concatenate(
        [
            (projections[start : start + step] @ prototypes.T).argmax(axis=1)
            for start in range(0, len(projections), step)
        ]
    )
    return Assignment(best, np.bincount(best, minlength=len(prototypes)))


def section(run: Run) -> Section:
    """Show the most used prototypes by their nearest images.

    Raises:
        UserError: The method has no prototypes, or no model can be made.
    """
    ask = getattr(run.model, "prototypes", None)
    found = ask() if callable(ask) else None
    if found is None:
        raise UserError(f"{type(run.model).__name__} is a method without prototypes")
    prototypes = found.detach().cpu().numpy()
    assignment = assign(run.projections, prototypes)
    order = np.argsort(-assignment.counts, kind="stable")
    used = int((assignment.counts > 0).sum())
    shown = [int(k) for k in order[:SHOWN] if assignment.counts[k]]
    scores = run.projections @ prototypes[shown].T
    figures, rows = [], []
    for column, prototype in enumerate(shown):
        nearest = np.argsort(-scores[:, column], kind="stable")[:NEAREST]
        thumbs = []
        for place in nearest:
            label = _label(run, int(place))
            score = float(scores[place, column])
            words = f"{run.names[place]}{f', {label}' if label else ''}, score {score:.2f}"
            thumbs.append(run.sprite.thumb(int(place), words))
            rows.append([prototype, run.names[place], label, f"{score:.5f}"])
        count = int(assignment.counts[prototype])
        share = count / len(assignment.best)
        figures.append(
            Markup(
                "<figure><figcaption>prototype {}: {} images ({:.1%}){}</figcaption>"
                '<div class="row">{}</div></figure>\n'
            ).format(
                prototype, count, share, _mostly(run, assignment.best == prototype), joined(thumbs)
            )
        )
    facts = [
        ("prototypes", f"{len(prototypes):,}"),
        ("nearest to at least one image", f"{used:,}"),
        ("images", f"{len(run.indices):,} of {len(run.images):,}"),
        ("largest share of the images", f"{assignment.counts.max() / len(run.indices):.1%}"),
    ]
    body = joined(
        [
            pairs(facts),
            paragraph(
                f"The {len(shown)} prototypes with the most images, each by the {NEAREST} images "
                "with the highest score (the target network's, images whole), the highest first."
            ),
            Markup('<div class="prototypes">{}</div>\n').format(joined(figures)),
        ]
    )
    counts = [[k, int(n)] for k, n in enumerate(assignment.counts) if n]
    return Section(
        "prototypes",
        "Prototypes",
        body,
        [
            Download("prototypes.csv", csv_of(["prototype", "image", "label", "score"], rows)),
            Download("prototype_counts.csv", csv_of(["prototype", "images"], counts)),
        ],
    )


def _label(run: Run, place: int) -> str:
    return "" if run.labels is None else run.classes[run.labels[place]]


def _mostly(run: Run, members: NDArray[np.bool_]) -> str:
    """Say of which class most of a prototype's images are."""
    if run.labels is None:
        return ""
    counts = np.bincount(run.labels[members], minlength=len(run.classes))
    top = int(counts.argmax())
    return f", {counts[top] / counts.sum():.0%} of them {run.classes[top]}"
