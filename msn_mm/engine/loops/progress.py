"""Where a training stands within an epoch, and what that means for other settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Where a run was when it was saved, and how it divided its work.

    Attributes:
        epoch: epochs that are over.
        iter: iterations that are over, of all epochs.
        images: images of the current epoch that all processes together have seen.
        validation_due: the validation that follows the last epoch has not ended.
        epoch_length: iterations of an epoch.
        world_size: number of processes.
        batch: images of an iteration over all processes.
        accumulation: iterations of an optimizer step.
        total: images of the data set.
        seed: seed of the sampler's permutations.
    """

    epoch: int
    iter: int
    images: int = 0
    validation_due: bool = False
    epoch_length: int = 0
    world_size: int = 1
    batch: int = 0
    accumulation: int = 1
    total: int = 0
    seed: int | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps that are over."""
        return self.iter // self.accumulation

    def state_dict(self) -> dict[str, Any]:
        """Return the content for a checkpoint."""
        return asdict(self)

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any], now: Progress) -> Progress:
        """Read where a checkpoint stands.

        One without a place of its own (written by MMEngine's hook) is taken as
        written under the settings of ``now``.
        """
        saved = checkpoint.get("progress")
        if saved is not None:
            return cls(**{k: v for k, v in saved.items() if k in cls.__dataclass_fields__})
        meta = checkpoint["meta"]
        epoch, done = int(meta["epoch"]), int(meta["iter"])
        within = max(done - epoch * now.epoch_length, 0)
        known = {**asdict(now), "validation_due": False, "seed": None}
        return cls(**{**known, "epoch": epoch, "iter": done, "images": within * now.batch})

    def lost_to(self, now: Progress) -> list[str]:
        """Return, for the log, what is no longer bitwise under the settings of ``now``."""
        changes = [
            f"{getattr(now, name)} {what} instead of {getattr(self, name)}"
            for name, what in (
                ("world_size", "processes"),
                ("batch", "images an iteration"),
                ("accumulation", "accumulated iterations"),
            )
            if getattr(self, name) != getattr(now, name)
        ]
        lines = []
        if changes:
            left = f"the images of epoch {self.epoch + 1} that are left follow, none twice; "
            lines.append(
                f"resumed with {', '.join(changes)}: {left if self.images else ''}sums over "
                "batches and processes, and what random generators draw, are no longer bitwise "
                "those of the uninterrupted run"
            )
        if self.total and self.total != now.total:
            lines.append(
                f"the data set has {now.total} images and had {self.total}: its order is another"
                + (", so this epoch may repeat or miss images" if self.images else "")
            )
        return lines
