"""What a run may spend: optimizer steps times images; a comparison wants it equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msn_mm.errors import UserError
from msn_mm.sweeps.sweep_file import SweepRun
from msn_mm.utils.dry_run import make_plan
from msn_mm.utils.results import format_table


@dataclass(frozen=True)
class Budget:
    """The length of one training.

    Attributes:
        steps: Optimizer steps; ``None`` where the data are not at hand to count.
        batch: Images of a step, over all processes.
        views: Views of an image that a step takes.
        flops: Of the whole training, predicted; 0 where they are not known.
    """

    steps: int | None
    batch: int
    views: int = 1
    flops: float = 0.0

    @property
    def images(self) -> int | None:
        """Steps x images of a step."""
        return None if self.steps is None else self.steps * self.batch


def budget_of(run: SweepRun) -> Budget:
    """Work out what a run's training takes; its model is built without memory on the way.

    Raises:
        UserError: The run's config does not build.
    """
    try:
        plan = make_plan(run.cfg)
    except UserError as error:
        raise UserError(f"run '{run.label}': {error}") from error
    loop = run.cfg.get("train_cfg") or {}
    batch = plan.batch.global_batch
    steps = loop.get("max_iters")
    if loop.get("max_epochs") is not None:
        images = plan.images[0]
        steps = None if images is None else loop["max_epochs"] * (images // batch)
    flops = 0.0 if steps is None else float(plan.flops) * steps * batch
    return Budget(steps, batch, _views(run), flops)


def _views(run: SweepRun) -> int:
    """Count the views of an image that a step takes."""
    transform = run.cfg.train_dataloader.dataset.get("transform") or {}
    groups = transform.get("views") or {"image": {}}
    return sum(int(view.get("num", 1)) for view in groups.values())


def budget_table(runs: Sequence[SweepRun], budgets: Mapping[str, Budget]) -> str:
    """Lay out the budgets, one row a run."""
    rows = []
    for run in runs:
        one = budgets[run.label]
        rows.append(
            [
                run.label,
                "?" if one.steps is None else f"{one.steps:,}",
                f"{one.batch:,}",
                "?" if one.images is None else f"{one.images:,}",
                str(one.views),
                f"{one.flops / 1e12:,.1f}" if one.flops else "?",
            ]
        )
    header = ["run", "steps", "images a step", "images in all", "views an image", "TFLOPs"]
    return format_table(header, rows)


def budget_warning(budgets: Mapping[str, Budget]) -> str | None:
    """Return a line when the runs do not all take the same steps and images."""
    kinds: dict[tuple[int | None, int], list[str]] = {}
    for label, one in budgets.items():
        kinds.setdefault((one.steps, one.batch), []).append(label)
    if any(steps is None for steps, _ in kinds):
        return "warning: the data are not at hand to count steps; budgets are not compared"
    if len(kinds) < 2:
        return None
    parts = "; ".join(
        f"{steps:,} steps x {batch} images: {', '.join(labels)}"
        for (steps, batch), labels in kinds.items()
    )
    return f"warning: the runs' budgets differ ({parts}); their rows are no fair comparison"
