"""The one way from images to features: batched, by several workers and processes, cached.

Legend: n rows asked for, m of them to be encoded, B batch size, D width, W processes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, gather_object, get_rank, get_world_size
from numpy.typing import NDArray
from torch import Tensor

from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.datasets.keys import SampleKey
from msn_mm.errors import UserError
from msn_mm.evaluation.encoder import FrozenEncoder
from msn_mm.evaluation.feature_cache import FeatureCache
from msn_mm.evaluation.row_table import RowTable
from msn_mm.evaluation.view_loading import Attempts, collate_attempts, view_loader
from msn_mm.models.readout import check_readout
from msn_mm.utils.progress import Progress

Rows = NDArray[np.float32]

# After so long, or so many rows, the processes bring together what they have:
# what a killed run keeps, and how long a process waits for one that has failed.
_ROUND_S = 20.0
_ROUND_ROWS = 8192
_ROUND_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Mask:
    """Which random patches an encoder does not see; a function of (seed, image, number).

    Attributes:
        ratio: Share of patches to drop; 0 for whole images.
        seed: Seed of the masks.
        number: Which of several masks of an image.
    """

    ratio: float = 0.0
    seed: int = 0
    number: int = 0

    def keys(self, indices: Sequence[int]) -> Tensor | None:
        """Return the key of each image's mask, int64; ``None`` for whole images."""
        if not self.ratio:
            return None
        return torch.tensor(
            [SampleKey(i, self.seed, 0).view_key(self.number) for i in indices], dtype=torch.int64
        )


def extract(
    encoder: FrozenEncoder,
    images: EvaluationImages,
    indices: Sequence[int] | NDArray[np.integer] | None = None,
    *,
    mask: Mask = Mask(),
    batch_size: int = 64,
    workers: int = 0,
    cache: FeatureCache | None = None,
    progress: str | None = None,
    unreadable: dict[int, str] | None = None,
) -> Rows | None:
    """Encode images; call it on every process of a group.

    On a CPU in float32 the rows do not depend, to the last bit, on the batch
    size, the workers, the processes, or on which rows the cache had. With
    ``amp`` they differ by bfloat16's rounding, 2 % of a row's norm at most. No
    random generator is touched.

    Args:
        encoder: What encodes; the same on every process.
        images: What is encoded.
        indices: Which images, in which order, repetitions allowed; default: all.
        mask: Random patches to drop.
        batch_size: B, the images of a batch on one process.
        workers: Data workers of each process; 0 reads in the process itself.
        cache: Where rows are kept; ``None`` for nowhere.
        progress: What to call the work on rank 0's terminal; ``None`` for silence.
        unreadable: Is given on rank 0, by its place in ``indices``, why an image
            cannot be read; its row is NaN. ``None``: such an image is an error.

    Returns:
        float32 ``(n, D)`` in the order of ``indices`` on rank 0, ``None`` elsewhere.

    Raises:
        UserError: An image cannot be read, images differ in size or do not fit
            the encoder, or the cache cannot be written. Every process raises.
        ValueError: A batch size below 1, negative workers, or an index outside.
    """
    if batch_size < 1 or workers < 0:
        raise ValueError(f"batch_size {batch_size} or workers {workers} is impossible")
    check_readout(encoder.trunk, encoder.readout, mask.ratio)
    wanted = np.arange(len(images)) if indices is None else np.asarray(indices, dtype=np.int64)
    if wanted.ndim != 1 or (wanted.size and not 0 <= wanted.min() <= wanted.max() < len(images)):
        raise ValueError(f"indices must be a vector of numbers from 0 to {len(images) - 1}")

    table: RowTable | None = None
    todo: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    error: Exception | None = None
    if get_rank() == 0:
        try:
            table = RowTable(encoder, images, wanted, mask, cache)
            todo = table.missing
        except Exception as caught:
            error = caught
    todo = _agree(todo, error)
    attempts = Attempts(images, needs_all=unreadable is None)
    _encode(encoder, attempts, todo, mask, batch_size, workers, progress, table)
    if table is None:
        return None
    if unreadable is not None:
        unreadable.update(table.unreadable())
    return table.rows()


class _Share(NamedTuple):
    """What a process brings to the end of a round."""

    places: NDArray[np.int64]
    rows: Rows | None
    unreadable: dict[int, str]
    error: Exception | None


def _encode(
    encoder: FrozenEncoder,
    attempts: Attempts,
    todo: NDArray[np.int64],
    mask: Mask,
    batch_size: int,
    workers: int,
    progress: str | None,
    table: RowTable | None,
) -> None:
    """Encode ``todo``, its batches dealt to the processes, into rank 0's table.

    The processes meet after every round. One that has failed goes there at
    once, and all of them raise its error.
    """
    rank, world = get_rank(), get_world_size()
    places = np.arange(len(todo))
    batches = [places[i : i + batch_size] for i in range(0, len(todo), batch_size)]
    mine = batches[rank::world]
    views: Iterator[tuple[Tensor | None, list[str | None]]] = iter(
        view_loader(
            attempts,
            [todo[batch].tolist() for batch in mine],
            workers,
            encoder.device.type == "cuda",
            collate_attempts,
        )
    )
    begun, rounds = 0, _Rounds(batch_size * world)
    with Progress(len(todo), progress if rank == 0 else None) as shown:
        while begun * world < len(batches):
            now = mine[begun : begun + rounds.batches]
            begun += rounds.batches
            outputs: list[Tensor] = []
            read: list[NDArray[np.int64]] = [places[:0]]
            reasons: dict[int, str] = {}
            error: Exception | None = None
            try:
                for batch in now:
                    seen, whys = next(views)
                    good = np.array([why is None for why in whys])
                    if seen is not None:
                        keys = mask.keys(todo[batch[good]].tolist())
                        outputs.append(encoder(seen, mask.ratio, keys))
                        read.append(batch[good])
                    reasons |= {int(i): w for i, w in zip(batch, whys, strict=True) if w}
                    shown.to(int(batch[-1]) + 1)
                # One wait for the device a round, not one a batch.
                rows = torch.cat(outputs).cpu().numpy() if outputs else None
            except UserError as caught:
                rows, error = None, caught.with_traceback(None)
                # With the last reference the data workers go; in a garbage
                # collection, later, each would be waited for.
                views = iter(())
            except Exception as caught:
                rows, error = None, caught
            done = np.concatenate(read) if rows is not None else places[:0]
            rounds.batches = _meet(_Share(done, rows, reasons, error), table, rounds)


class _Rounds:
    """How many batches of each process make a round; rank 0 decides it for all.

    Args:
        rows_a_batch: Images that all processes together encode in a batch each.
    """

    def __init__(self, rows_a_batch: int) -> None:
        self.batches = 1
        self._rows = rows_a_batch
        self._start = time.monotonic()

    def next(self, width: int) -> int:
        """Return the size of the round after one that has just ended."""
        now = time.monotonic()
        seconds, self._start = now - self._start, now
        in_time = int(self.batches * _ROUND_S / max(seconds, 1e-3))
        most = min(_ROUND_ROWS, _ROUND_BYTES // (4 * max(width, 1))) // self._rows
        return max(1, min(in_time, most))


def _meet(share: _Share, table: RowTable | None, rounds: _Rounds) -> int:
    """End a round: the rows go to rank 0, the length of the next round to all."""
    portable = share._replace(error=_portable(share.error))
    shares = gather_object(portable, dst=0)
    error, width = None, 1
    if table is not None:
        assert shares is not None
        try:
            # What is done stays done, whatever happened to another process.
            for places, rows, reasons, _ in shares:
                table.leave_out(reasons)
                if rows is not None:
                    table.put(places, rows)
                    width = rows.shape[1]
        except Exception as caught:
            error = caught
        error = share.error or next((s.error for s in shares if s.error is not None), error)
    return _agree(rounds.next(width), error, own=share.error)


def _agree(value: Any, error: Exception | None, own: Exception | None = None) -> Any:
    """Return rank 0's value on all processes, or raise its error on all of them.

    A process that met an error of its own raises that one, traceback and all.
    """
    told = [(value, _portable(error))]
    broadcast_object_list(told)
    value, common = told[0]
    mine = own or (error if get_rank() == 0 else None)
    if common is not None:
        raise mine or common
    return value


def _portable(error: Exception | None) -> Exception | None:
    """The error in a form that travels to another process."""
    if error is None or isinstance(error, UserError):
        return error
    return RuntimeError(f"another process failed: {type(error).__name__}: {error}")
