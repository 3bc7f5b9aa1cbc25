"""Section: the features in two dimensions.

Shapes: n images, D features.
"""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError
from msn_mm.visualization.page_parts import (
    Download,
    Markup,
    Section,
    csv_of,
    embedded_json,
    joined,
    paragraph,
)
from msn_mm.visualization.report.chart import COLOURS
from msn_mm.visualization.report.run import Run
from msn_mm.visualization.report.sprite import SIDE

UMAP, PCA, AUTO = "umap", "pca", "auto"
# UMAP's neighbours of a point; it needs more points than these.
_NEIGHBOURS = 15
_SIDE, _MARGIN = 640, 14
# Of more classes buttons and colours tell nothing apart.
_MOST_CLASSES = 50


def layout_of(asked: str, count: int) -> str:
    """Return which map is drawn: what was asked for, or UMAP where it can be.

    Raises:
        UserError: UMAP was asked for and is not installed, or has too few images.
    """
    if asked == PCA:
        return PCA
    installed = importlib.util.find_spec("umap") is not None
    enough = count > _NEIGHBOURS
    if asked == UMAP and not installed:
        raise UserError("--map umap needs umap-learn: pip install 'msn_mm[report]'")
    if asked == UMAP and not enough:
        raise UserError(f"--map umap needs more than {_NEIGHBOURS} images, not {count}")
    return UMAP if installed and enough else PCA


def place_points(features: NDArray[np.floating], layout: str, seed: int) -> NDArray[np.float64]:
    """Lay out features in the plane.

    Args:
        features: ``(n, D)``.
        layout: ``umap`` (cosine, as the evaluations see features) or ``pca``.
        seed: Of UMAP.

    Returns:
        ``(n, 2)``; the same for the same seed.
    """
    if layout == UMAP:
        with warnings.catch_warnings():
            # It says that one seed means one thread, which is what is wanted.
            warnings.simplefilter("ignore")
            import umap

            found = umap.UMAP(
                n_neighbors=_NEIGHBOURS, metric="cosine", random_state=seed, n_jobs=1
            ).fit_transform(features)
        return np.asarray(found, dtype=np.float64)
    from sklearn.decomposition import PCA as Components

    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    parts = min(2, *unit.shape)
    found = Components(parts, svd_solver="full").fit_transform(unit.astype(np.float64))
    return np.pad(found, ((0, 0), (0, 2 - parts)))


def section(run: Run) -> Section:
    """Draw the map, a point an image, with its thumbnail behind it.

    Raises:
        UserError: No features can be made.
    """
    body, points = draw_map(run)
    label = run.labels
    rows = [
        [name, f"{x:.5f}", f"{y:.5f}", "" if label is None else run.classes[label[i]]]
        for i, (name, (x, y)) in enumerate(zip(run.names, points, strict=True))
    ]
    return Section(
        "map",
        "Map of the features",
        body,
        [Download("map.csv", csv_of(["image", "x", "y", "label"], rows))],
    )


def draw_map(run: Run) -> tuple[Markup, NDArray[np.float64]]:
    """Return the map as markup, and its points ``(n, 2)``."""
    layout = layout_of(run.options.layout, len(run.indices))
    points = place_points(run.features, layout, run.options.seed)
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    pixels = _MARGIN + (points - low) / span * (_SIDE - 2 * _MARGIN)
    pixels[:, 1] = _SIDE - pixels[:, 1]
    labels = run.labels if len(run.classes) <= _MOST_CLASSES else None
    radius = 4.5 if len(points) <= 600 else 3.4
    circles = joined(
        Markup('<circle class="s{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(
            0 if labels is None else int(labels[i]) % COLOURS, x, y, radius
        )
        for i, (x, y) in enumerate(pixels)
    )
    words = "UMAP, cosine distance" if layout == UMAP else "the first two principal components"
    parts = [
        paragraph(
            f"{len(points):,} of {len(run.images):,} images by {words}; touch a point, or use the "
            "arrow keys, to see its image. Distances within a group tell more than those between "
            "groups."
        )
    ]
    if layout == PCA and run.options.layout == AUTO:
        parts.append(
            paragraph("UMAP separates groups better: pip install 'msn_mm[report]'", "note")
        )
    if labels is not None:
        parts.append(
            Markup('<ul class="classes" aria-label="Show classes alone">{}</ul>\n').format(
                joined(
                    Markup(
                        '<li><button type="button" class="s{}" aria-pressed="false" '
                        'data-label="{}">{}</button></li>'
                    ).format(k % COLOURS, k, name)
                    for k, name in enumerate(run.classes)
                )
            )
        )
    data = {
        "columns": run.sprite.columns,
        "cell": SIDE,
        "names": run.names,
        "labels": run.labels,
        "classes": run.classes or None,
    }
    parts.append(
        Markup(
            '<div class="map"><svg viewBox="0 0 {s} {s}" role="img" tabindex="0" aria-label="'
            'Map of {} images; arrow keys go from image to image">{}</svg>'
            '<div class="tip" hidden><span class="thumb {}"></span><span class="words"></span>'
            "</div>{}</div>\n"
        ).format(len(points), circles, run.sprite.name, embedded_json(data), s=_SIDE)
    )
    return Markup("<div>{}</div>\n").format(joined(parts)), points
