"""What reaches the user of a mistake."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader, Dataset

from msn_mm.errors import UserError, did_you_mean


class Broken(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise UserError("the file x.jpg is no image; remove it")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_found_in_a_worker_stays_one_line(workers):
    with pytest.raises(UserError) as caught:
        next(iter(DataLoader(Broken(), num_workers=workers)))
    assert str(caught.value) == "the file x.jpg is no image; remove it"


def test_nearest_name():
    assert did_you_mean("optim_wraper", ["optim_wrapper", "model"]) == (
        " Did you mean 'optim_wrapper'?"
    )
    assert did_you_mean("xyz", ["optim_wrapper"]) == ""
