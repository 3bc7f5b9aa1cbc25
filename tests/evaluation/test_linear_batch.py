"""Batches of the linear evaluation on any number of processes."""

from __future__ import annotations

import pytest

from msn_mm.engine.batch import quarter_batch
from msn_mm.errors import UserError
from msn_mm.evaluation.linear_batch import accumulation, dividing_batch


@pytest.mark.parametrize("processes", range(1, 9))
@pytest.mark.parametrize("images", [5, 240, 1297, 5000, 40_000, 1_281_167])
def test_the_default_divides_on_any_number_of_processes(images: int, processes: int) -> None:
    whole = min(16384, quarter_batch(images))
    for pass_batch in (2, 100, 256):
        batch = dividing_batch(whole, processes, pass_batch)
        passes = accumulation(batch, processes, pass_batch)
        share = batch // processes
        assert share * processes == batch and share % passes == 0
        assert 2 <= share // passes <= pass_batch
        if batch > 2 * processes:
            assert passes == 1 or share // passes > pass_batch / 2
            assert 0 <= whole - batch < processes * (1 + share // passes)
    assert dividing_batch(16384, 8, 256) == 16384
    assert dividing_batch(1024, 3, 256) == 3 * 340


def test_a_batch_in_tiny_passes_is_refused_by_the_nearest_good_one() -> None:
    assert accumulation(256, 2, 100) == 2
    assert accumulation(16384, 8, 256) == 8
    assert accumulation(360, 1, 100) == 4
    assert accumulation(257, 2, 100) == 1
    for batch, processes, pass_batch, near, told in (
        (514, 1, 200, 513, "257 forward passes of 2 and"),
        (521, 1, 200, 520, "521 forward passes of 1 and"),
        (1042, 2, 200, 1040, "1042 forward passes of 1 and"),
        (3, 1, 2, 2, "3 forward passes of 1 and"),
        (2, 2, 256, 4, "2 forward passes of 1 and"),
    ):
        with pytest.raises(UserError, match=f"{told}.*: set --global-batch {near}$"):
            accumulation(batch, processes, pass_batch)
        assert accumulation(near, processes, pass_batch) <= 4
