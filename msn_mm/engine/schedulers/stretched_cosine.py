"""A cosine schedule that is longer than the training it is cut to."""

from __future__ import annotations

from typing import Any

from mmengine.optim import CosineAnnealingParamScheduler

from msn_mm.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class StretchedCosine(CosineAnnealingParamScheduler):
    """Cosine from the start value at ``begin`` to the end value at ``stretch * end``.

    Training stops at ``end``, before the cosine has reached its end value. The
    released MSN code trains with a stretch of 1.25.

    Args:
        optimizer: Optimizer or optimizer wrapper.
        param_name: Which value of the parameter groups to set: "lr", "weight_decay", ...
        stretch: Length of the schedule over the length of training, at least 1.
        begin: First step.
        end: Last step of training; MMEngine's runner fills it in.
        **kwargs: As for ``CosineAnnealingParamScheduler``.

    Raises:
        ValueError: If ``stretch`` is below 1.
    """

    def __init__(
        self,
        optimizer: Any,
        param_name: str,
        stretch: float,
        begin: int = 0,
        end: int = 1_000_000_000,
        **kwargs: Any,
    ) -> None:
        if stretch < 1.0:
            raise ValueError(f"stretch is {stretch}; it must be at least 1")
        t_max = round(stretch * end) - begin
        super().__init__(
            optimizer, param_name=param_name, T_max=t_max, begin=begin, end=end, **kwargs
        )

    @classmethod
    def build_iter_from_epoch(
        cls,
        optimizer: Any,
        *,
        begin: int = 0,
        end: int = 1_000_000_000,
        by_epoch: bool = True,
        epoch_length: float | None = None,
        **kwargs: Any,
    ) -> StretchedCosine:
        """Build the schedule in iterations from one that is given in epochs.

        Raises:
            ValueError: Without ``by_epoch`` or an epoch's length in iterations.
        """
        if not by_epoch or not epoch_length:
            raise ValueError("converting to iterations needs by_epoch=True and an epoch_length")
        begin, end = int(begin * epoch_length), int(end * epoch_length)
        return cls(optimizer, begin=begin, end=end, by_epoch=False, **kwargs)
