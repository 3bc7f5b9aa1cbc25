"""How a batch of images that do not meet divides into processes and forward passes."""

from __future__ import annotations

from msn_mm.engine.batch import MIN_PROCESS_BATCH
from msn_mm.errors import UserError

# More passes than this many times the fewest possible are told instead of run.
_MOST = 2


def dividing_batch(batch: int, processes: int, pass_batch: int) -> int:
    """Return the largest batch up to ``batch`` that divides into alike, nearly full passes.

    Args:
        batch: Images of a step.
        processes: How many share it.
        pass_batch: Most images of one forward pass on one process.

    Returns:
        Passes of more than half of ``pass_batch`` images on each process, or one of at
        least two.
    """
    share = max(MIN_PROCESS_BATCH, batch // processes)
    if share > pass_batch:
        share = max(share // each * each for each in range(pass_batch // 2 + 1, pass_batch + 1))
    return processes * share


def accumulation(batch: int, processes: int, pass_batch: int) -> int:
    """Return the fewest forward passes of at most ``pass_batch`` images that make up a batch.

    One where the batch does not divide into processes: the batch plan tells that.

    Raises:
        UserError: Only many small passes of one size make up the batch, as those of two
            images for 514 images in passes of up to 200; names the nearest that divides.
    """
    if batch % processes:
        return 1
    share = batch // processes
    fewest = -(-share // pass_batch)
    passes = next(n for n in range(fewest, share + 1) if share % n == 0)
    if passes <= _MOST * fewest and share // passes >= MIN_PROCESS_BATCH:
        return passes
    raise UserError(
        f"--global-batch {batch} divides into {processes * passes} forward passes of "
        f"{share // passes} and into no larger ones of up to {pass_batch} images: set "
        f"--global-batch {dividing_batch(batch, processes, pass_batch)}"
    )
