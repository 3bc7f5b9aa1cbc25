"""What a fit and its predictions amount to, in a table and plain sentences."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping

from msn_mm.datasets.decode import printable
from msn_mm.few_labels.calibration import Calibration
from msn_mm.few_labels.estimate import CONFIDENCE, Estimate, Proportion, labels_needed
from msn_mm.few_labels.fitting import Fit
from msn_mm.few_labels.likeness import images_needed
from msn_mm.few_labels.predicting import Predictions
from msn_mm.few_labels.predictor import UNKNOWN_RATE
from msn_mm.few_labels.suggesting import Suggestions
from msn_mm.utils.results import format_table

_WIDTH = 96
# Half the width, as a share, that a user who labels more is given the price of.
_PLANNED = 0.1


def fit_report(fitted: Fit) -> str:
    """Return table and sentences on a fit's worth."""
    content, found = fitted.content, fitted.estimate
    if found is None:
        counts = Counter(content.labels.tolist())
        single = [name for k, name in enumerate(content.classes) if counts[k] == 1]
        lines = [_nothing_held_out(single)]
    else:
        lines = [_table(found, content.classes), "", *_sentences(found, fitted)]
    return "\n".join([*lines, *_on_unknown(len(content.paths))])


def prediction_report(found: Predictions, unknown_rate: float) -> str:
    """Return how many images got which label, and what was flagged or unreadable."""
    counts = Counter(found.labels[found.labels >= 0].tolist())
    flagged = Counter(found.labels[found.unknown].tolist())
    rows = [
        [printable(name), f"{counts[k]:,}", f"{flagged[k]:,}"]
        for k, name in enumerate(found.classes)
        if counts[k]
    ]
    total = [f"{sum(counts.values()):,}", f"{sum(flagged.values()):,}"]
    lines = [format_table(["label", "images", "unknown-looking"], [*rows, ["all", *total]]), ""]
    if found.threshold is None:
        lines += _on_unknown(len(found.labelled_paths), unknown_rate)
    else:
        lines.append(
            _wrap(
                f"Unknown-looking: similarity below {found.threshold:.3f} to every labelled image. "
                f"About {unknown_rate:.0%} of images like the labelled ones fall below that too."
            )
        )
    lines += _unreadable({found.paths[number]: why for number, why in found.errors.items()})
    return "\n".join(lines)


def suggestion_report(found: Suggestions) -> str:
    """Return how many images are to be labelled, the first of them, and what was left out."""
    shown = list(zip(found.names, found.reasons, strict=True))[:5]
    lines = [
        f"{len(found.names):,} of {found.images:,} images to label first; "
        f"{len(found.labelled):,} have a label already. The first of them:"
    ]
    lines += [f"  {printable(name)}: {reason}" for name, reason in shown]
    if found.copies:
        lines.append(
            "Left out because they look to the encoder exactly like another image: "
            f"{found.copies:,}."
        )
    return "\n".join([*lines, *_unreadable(found.errors)])


def _unreadable(errors: Mapping[str, str]) -> list[str]:
    """Say how many files cannot be read, and the reason of the first."""
    if not errors:
        return []
    lines = [f"{len(errors):,} files cannot be read, the first of them:"]
    first = list(errors.items())[:3]
    return [*lines, *(f"  {printable(name)}: {reason}" for name, reason in first)]


def _table(found: Estimate, classes: tuple[str, ...]) -> str:
    def row(name: str, one: Proportion) -> list[str]:
        low, high = one.interval
        return [
            printable(name),
            str(one.total),
            str(one.right),
            f"{one.share:.0%}",
            f"{low:.0%} or more" if found.is_low else f"{low:.0%} to {high:.0%}",
            "too few labels to tell" if one.is_vague else "",
        ]

    rows = [row(name, one) for name, one in zip(classes, found.by_class, strict=True)]
    header = ["class", "labels", "right", "accuracy", f"{CONFIDENCE:.0%} interval", ""]
    return format_table(header, [*rows, row("all", found.overall)])


def _sentences(found: Estimate, fitted: Fit) -> list[str]:
    low, high = found.overall.interval
    lines = [
        f"Every labelled image was asked once, by a classifier that had not seen it and had learnt "
        f"from {found.folds - 1} of {found.folds} parts of the labels: {found.overall.right} of "
        f"{found.overall.total} were right."
    ]
    if found.is_low:
        lines[0] += (
            " The classifier written has learnt from all labels and should do better: on new "
            f"images of these kinds, in the same shares, expect at least {low:.0%}. How much more "
            "takes five labels in every class to tell."
        )
    else:
        lines[0] += (
            f" On new images of these kinds, in the same shares, expect between {low:.0%} and "
            f"{high:.0%}; {found.overall.total} labels cannot tell more closely."
        )
    if not found.beats_guessing:
        lines.append(
            f"That is not surely better than always answering the most frequent class "
            f"({found.most_frequent:.0%}): label more images, or take another encoder."
        )
    vague = sum(one.is_vague for one in found.by_class)
    if vague:
        needed = labels_needed(found.overall.share, _PLANNED)
        lines.append(
            f"For {vague} of {len(found.by_class)} classes the labels are too few to tell how well "
            f"each is recognised. Within {_PLANNED:.0%} either way takes about {needed} labels a "
            "class."
        )
    if found.lambdas_from == "released":
        lines.append(
            "With two labels in some class the held-out parts were too small to choose the "
            f"regularisation in: the estimate is for {found.lambdas[0]:g}, and the classifier "
            f"itself uses {fitted.learnt.lambd:g}."
        )
    lines.append(_on_calibration(found.calibration, found.overall.share))
    return [_wrap(line) for line in lines]


def _on_calibration(found: Calibration | None, share: float) -> str:
    if found is None:
        return (
            "The probabilities are calibrated on held-out images; how well cannot be told, which "
            "takes at least three labels in every class."
        )
    verdict = (
        "more than chance explains: do not take the probabilities at their word"
        if found.is_off
        else "no more than chance explains at so few images"
    )
    return (
        f"Probabilities: {found.mean_confidence:.0%} on average where {share:.0%} were right; "
        f"expected calibration error {found.error:.1%} ({found.low:.1%} to {found.high:.1%}), "
        f"{verdict} (up to {found.by_chance:.1%})."
    )


def _nothing_held_out(single: list[str]) -> str:
    few = ", ".join(f"'{printable(name)}'" for name in single[:3]) + (
        ", ..." if len(single) > 3 else ""
    )
    have = "has one label" if len(single) == 1 else "have one label each"
    return _wrap(
        f"How accurate this classifier is cannot be told: {few} {have}, so nothing can be held out "
        "to ask it about. Its regularisation is the released one where none was given, and its "
        "probabilities are not calibrated. Give every class a second label for a first estimate, "
        "five for a usable one."
    )


def _on_unknown(labelled: int, rate: float = UNKNOWN_RATE) -> list[str]:
    needed = images_needed(rate)
    if labelled >= needed:
        return []
    return [
        _wrap(
            f"No image will be flagged as unknown: at a rate of {rate:.0%} that takes {needed} "
            f"labelled images, and there are {labelled}."
        )
    ]


def _wrap(text: str) -> str:
    return textwrap.fill(text, _WIDTH)
