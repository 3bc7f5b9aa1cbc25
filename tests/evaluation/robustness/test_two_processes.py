"""A pass on two processes: what the first one meets, both of them tell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed as dist
from PIL import Image

from msn_mm.errors import UserError
from msn_mm.evaluation.robustness import measuring
from msn_mm.evaluation.robustness.finished_passes import FinishedPasses
from tests.two_processes import start_two

from .stand_ins import spell
from .test_protocol import folder, robustness


def _fail(*_: object) -> None:
    raise UserError("no room")


def _measure(rank: int, port: int, root: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    told = []
    for trouble in ("none", "again", "key", "writing"):
        finished = FinishedPasses(Path(out, f"{trouble}.json")) if rank == 0 else None
        own = robustness(2, finished)
        before = measuring.work_key
        if trouble == "key":
            measuring.work_key = _fail
        if trouble == "writing" and finished is not None:
            finished.add = _fail  # type: ignore[method-assign]
        images = measuring.EvaluationImages(
            dict(type="ImageFolder", data_root=root, labels="folder"),
            dict(type="EvalCrop", resize=8, crop=8),
        )
        try:
            encoder = own.classifier.answers()
            told.append(str(own.measuring.accuracy(encoder, images, measuring.np.arange(2), "x")))
        except UserError as error:
            told.append(str(error))
        measuring.work_key = before
    Path(out, f"{rank}.txt").write_text("\n".join(told))
    dist.destroy_process_group()


@pytest.mark.slow
def test_both_processes_end_alike(tmp_path: Path) -> None:
    root = folder(tmp_path / "images", {"a": [0, 0, 1], "b": [1, 1]})
    Image.new("RGB", (8, 8), spell(0)).save(root / "b" / "2.png")
    start_two(_measure, str(root), str(tmp_path))
    one, two = (Path(tmp_path, f"{rank}.txt").read_text().splitlines() for rank in range(2))
    assert one == two
    assert one[0] == one[1] == str({"correct": 4, "images": 6, "top1": 100 * 4 / 6})
    assert one[2:] == ["no room", "no room"]
