"""Images in tar files, as webdataset writes them: from a local disk, or streamed."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from mmengine.dist import get_rank

from msn_mm.datasets.decode import UnreadableImageError, printable
from msn_mm.datasets.packed_images import PackedImages, named_classes, numbered
from msn_mm.datasets.shards.index import IndexedShard, index_shards
from msn_mm.datasets.shards.names import find_shards, is_address
from msn_mm.datasets.shards.stage import Copied, ShardStage
from msn_mm.datasets.windows import Windows
from msn_mm.errors import UserError
from msn_mm.registry import DATASETS

# Files that a process keeps open.
_OPEN = 64


@DATASETS.register_module()
class TarShards(PackedImages):
    """Every image in tar files, in the order of the files and their members.

    Neighbouring members of one name up to its first dot are a sample
    (``000017.jpg``, ``000017.cls``). Where each image begins is looked up once and
    kept, see :func:`~msn_mm.datasets.shards.index.index_shards`; then any image is
    one read, in any order.

    With ``stream`` a shard is never read from the middle: it is copied as a whole to
    ``stage_dir`` (once an epoch on each machine, the next window's ahead of time) and
    its images are taken from the copy. Training then shows the shards in a random
    order, ``window`` of them mixed at a time, see
    :class:`~msn_mm.datasets.windows.Windows`. The order, like all else, depends on
    (seed, epoch) alone, not on workers and processes. Shards at an address
    are always streamed; their first index reads each of them once.

    Args:
        data_root: As :func:`~msn_mm.datasets.shards.names.find_shards`.
        labels: ``none``, or the ending of the members that hold them, ``cls``. Whole
            numbers are the labels; words are names of ``classes``, or without these
            classes of their own, sorted.
        image: The ending of the images, where a sample has several.
        classes: Names of the classes by label, or a text file with one a line.
        stream: For network disks: read whole shards only.
        window: How many shards are mixed when streamed.
        stage_dir: A folder on a fast disk, or in memory (``/dev/shm/...``), with room
            for ``2 * window + 2`` shards; one a run, where several run at once.
        indices: The first so many images, or these.

    Raises:
        UserError: webdataset is not installed; there are no shards; one is damaged, or
            holds no image; an image has no label where they are wanted, or one that
            ``classes`` does not name.
        ValueError: If ``window`` is below 1.
    """

    LABELS = "for tar shards with a member NAME.cls an image: labels='cls'"

    def __init__(
        self,
        data_root: str | Path | Sequence[str | Path],
        labels: str = "none",
        image: str | None = None,
        classes: str | Path | Sequence[str] | None = None,
        stream: bool = False,
        window: int = 8,
        stage_dir: str | Path | None = None,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        if window < 1:
            raise ValueError(f"TarShards: window must be 1 or more, got {window}")
        shards = find_shards(data_root)
        self.window = window
        self.stage: ShardStage | None = None
        if stream or any(map(is_address, shards)):
            self.stage = ShardStage(stage_dir, keep=2 * window + 2)
        label = None if labels == "none" else labels.lower().lstrip(".")
        ending = None if image is None else image.lower().lstrip(".")
        indexed = index_shards(shards, ending, label, self._fetch)
        self.shards = [shard for shard, _ in indexed]
        contents = [content for _, content in indexed]
        counts = [len(content.offsets) for content in contents]
        self.shard_of = np.repeat(np.arange(len(counts)), counts)
        self.offsets = np.concatenate([content.offsets for content in contents])
        self.sizes = np.concatenate([content.sizes for content in contents])
        self.names = np.concatenate([content.names for content in contents])
        found, names = None, named_classes(classes, None)
        if label is not None:
            texts = np.concatenate([content.labels for content in contents])
            found, names = numbered(np.char.decode(texts, "utf-8", "replace"), classes)
        self._open: OrderedDict[int, IO[bytes]] = OrderedDict()
        self._process = os.getpid()
        super().__init__(_shown(data_root), len(self.offsets), found, names, indices)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": OrderedDict()}

    @property
    def windows(self) -> Windows | None:
        """The shards, where they are streamed."""
        if self.stage is None:
            return None
        return Windows(self.shard_of[self.rows], self.window, self._prepare)

    def name(self, row: int) -> str:
        """Return the shard, and below it the member."""
        member = os.fsdecode(self.names[row])
        return f"{self.shards[self.shard_of[row]].shard}/{printable(member)}"

    def read(self, row: int) -> bytes:
        """Return an encoded image: one read, which moves no file's position."""
        file = self._opened(int(self.shard_of[row]))
        size = int(self.sizes[row])
        content = os.pread(file.fileno(), size, int(self.offsets[row]))
        if len(content) != size:
            raise UnreadableImageError(self.name(row), "its shard ends too early")
        return content

    def mark(self, row: int) -> str:
        """Return the shard with its size and time of change, and the place in it."""
        shard = self.shards[self.shard_of[row]]
        where = shard.shard if is_address(shard.shard) else os.path.realpath(shard.shard)
        return f"{where}\0{shard.bytes}\0{shard.modified}\0{self.offsets[row]}"

    def _opened(self, number: int) -> IO[bytes]:
        if self._process != os.getpid():
            # A forked worker's own: the others' may close theirs.
            self._open, self._process = OrderedDict(), os.getpid()
        file = self._open.pop(number, None)
        if file is None:
            file = self._checked(self.shards[number])
            while len(self._open) >= _OPEN:
                self._open.popitem(last=False)[1].close()
        self._open[number] = file
        return file

    def _checked(self, index: IndexedShard) -> IO[bytes]:
        if self.stage is not None:
            return self.stage.open(index.copied())
        try:
            file = Path(index.shard).open("rb")  # noqa: SIM115  (kept open)
        except OSError as error:
            raise UserError(f"cannot read shard {index.shard}: {error.strerror}") from error
        index.check(os.fstat(file.fileno()))
        return file

    def _fetch(self, shard: str) -> IO[bytes]:
        assert self.stage is not None
        return self.stage.open(Copied(shard), fresh=True)

    def _prepare(self, numbers: Sequence[int]) -> None:
        assert self.stage is not None
        # Processes of one machine begin at different shards.
        turned: list[int] = []
        for begin in range(0, len(numbers), self.window):
            window = numbers[begin : begin + self.window]
            first = get_rank() % len(window)
            turned += [*window[first:], *window[:first]]
        self.stage.prepare(self.shards[number].copied() for number in turned)


def _shown(data_root: str | Path | Sequence[str | Path]) -> str:
    given = [data_root] if isinstance(data_root, str | Path) else list(data_root)
    return ", ".join(
        str(one) if is_address(str(one)) else str(Path(one).expanduser()) for one in given
    )
