"""How partial fine-tuning beside linear evaluation reads in a terminal (table 13)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.evaluation.tables import accuracy_heading, heading, spread
from msn_mm.utils.results import Table, format_table

_STRATEGIES = {
    "partial": "partial fine-tuning",
    "linear": "linear evaluation",
    "better": "better of the two *",
}
NOTE = (
    "* by mean top-1, as the paper reports MAE (in top-5 it may be the lower); chosen on the very "
    "images that it is measured on, which flatters it: tell which of the two you would have taken "
    "before you looked"
)

CHOSEN_ON = "evaluation images, which flatters it"


def better_of(partial: Any, linear: Any) -> dict[str, Any]:
    """Return the better of two measurements of a column, by mean top-1, as the paper does for MAE.

    The better one is chosen on the images that it is reported for.
    """
    name, values = max(
        (("linear", linear), ("partial", partial)), key=lambda pair: pair[1]["top1_mean"]
    )
    kept = {key: values[key] for key in values if key.startswith("top")}
    return {**kept, "method": name, "chosen_on": CHOSEN_ON}


def partial_tables(rows: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Return both strategies of each encoder and the better one, columns by labels.

    Args:
        rows: By the encoder's name and the column of labels ``partial``, ``linear``
            and ``better``.

    Returns:
        Top-1, and top-5 where there are more than five classes; in percent.
    """
    columns = list(next(iter(rows.values())))
    tables = []
    for top in ("top1", "top5"):
        if not any(f"{top}_mean" in m[c]["partial"] for m in rows.values() for c in columns):
            continue
        lines = []
        for name, measured in rows.items():
            lines.append([name, *[""] * len(columns)])
            for key, words in _STRATEGIES.items():
                lines.append([f"  {words}", *(spread(measured[c][key], top) for c in columns)])
        tables.append(Table([accuracy_heading(top), *map(heading, columns)], lines))
    return tables


def partial_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out :func:`partial_tables` as plain text, and what the better one is worth."""
    return "\n\n".join([*(table.text() for table in partial_tables(rows)), NOTE])


def choices_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out what was chosen for each split, and how long choice and training took.

    Args:
        rows: As in :func:`partial_table`.
    """
    lines = []
    for name, measured in rows.items():
        for column, values in measured.items():
            own = values["partial"]
            for number, (chosen, seconds) in enumerate(
                zip(own["chosen"], own["seconds"], strict=True)
            ):
                held_out = chosen["held_out_accuracy"]
                best = f"{max(held_out.values()):.1f} %" if held_out else "-"
                lines.append(
                    [
                        f"{name}: {heading(column)}, split {number}",
                        f"{chosen['lr']:g}",
                        str(chosen["epochs"]),
                        _SOURCES[chosen["from"]],
                        best,
                        f"{seconds:.1f}",
                    ]
                )
    header = ["chosen", "lr", "epochs", "by", "held-out labelled images", "seconds"]
    return format_table(header, lines)


_SOURCES = {
    "cross-validation": "cross-validation",
    "given": "given",
    "default": "fixed: nothing to hold out",
}


def grid_line(settings: Mapping[str, Any]) -> str:
    """Say what the choice is among.

    Args:
        settings: Of :meth:`~msn_mm.evaluation.partial.recipe.PartialRecipe.settings`.
    """
    rates = " ".join(f"{lr:g}" for lr in settings["learning_rates"])
    lengths = " ".join(map(str, settings["epochs"]))
    default = settings["default_trial"]
    return (
        f"grid: learning rates {rates} x epochs {lengths}, chosen for each split by "
        f"cross-validation within its labelled images (at most {settings['folds']} folds); with a "
        f"class of one image {default['lr']:g} x {default['epochs']}"
    )
