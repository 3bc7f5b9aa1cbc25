"""How many epochs some images need, and how many the time allows."""

from __future__ import annotations

import dataclasses

from msn_mm.auto_pretraining.settings import Choices

# Epochs of a folder of 20,000 images; more images need fewer, to the power below.
_EPOCHS, _EPOCHS_AT, _EPOCHS_POWER = 300, 20_000, 0.5
_FEWEST_EPOCHS, _MOST_EPOCHS = 30, 400
# Fewer steps, or fewer looks at an image, teach a larger encoder less than a smaller one.
_LEAST_STEPS, _LEAST_EPOCHS = 5_000, 10
_WARM_UP = 0.05
# Measurements and checkpoints take the rest.
_TRAINING_SHARE = 0.95
# The target is an average over this share of the steps: at least the paper's 250 steps at the
# longest, at most what a small training is good with.
_AVERAGED, _LEAST_WEIGHT, _MOST_WEIGHT = 0.01, 0.004, 0.03


def in_time(chosen: Choices, images: int, hours: float) -> Choices:
    """Return the same choices with as many epochs as the time allows at their rate.

    Args:
        chosen: With a rate, predicted or measured.
        images: Of the folder.
        hours: The most that the training may take.
    """
    wanted = wanted_epochs(images)
    epochs = max(1, min(wanted, _affordable(chosen, images, hours)))
    steps = epochs * (images // chosen.batch)
    if epochs == wanted:
        why = f"what {images:,} images need: {steps:,} steps; it stops earlier if all has settled"
    else:
        why = f"what {hours:g} hours allow, {steps:,} steps; {wanted} would be better"
    reasons = {**chosen.reasons, "epochs": (f"{epochs}", why)}
    weight = 1 / (_AVERAGED * max(steps, 1))
    momentum = round(1 - min(max(weight, _LEAST_WEIGHT), _MOST_WEIGHT), 4)
    warm_up = min(max(1, round(_WARM_UP * epochs)), max(epochs - 1, 0))
    return dataclasses.replace(
        chosen, epochs=epochs, momentum=momentum, warm_up=warm_up, reasons=reasons
    )


def wanted_epochs(images: int) -> int:
    """Return the epochs that so many images need, were there time."""
    scaled = _EPOCHS * (_EPOCHS_AT / images) ** _EPOCHS_POWER
    return round(min(max(scaled, _FEWEST_EPOCHS), _MOST_EPOCHS))


def is_enough(chosen: Choices, images: int, hours: float) -> bool:
    """Whether the time allows all epochs that are wanted, or many steps at least.

    Args:
        chosen: With a rate, predicted or measured, and a batch.
        images: Of the folder.
        hours: The most that the training may take.
    """
    wanted, epochs = wanted_epochs(images), _affordable(chosen, images, hours)
    steps = epochs * (images // chosen.batch)
    return epochs >= wanted or (epochs >= _LEAST_EPOCHS and steps >= _LEAST_STEPS)


def _affordable(chosen: Choices, images: int, hours: float) -> int:
    return int(_TRAINING_SHARE * hours * 3600 * chosen.images_per_s / images)
