"""Attention is drawn over the very pixels of each patch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msn_mm.visualization.attention_picture import attention_picture


@pytest.mark.parametrize("side", [28, 56, 200])
def test_each_patch_is_coloured_where_it_lies(side: int) -> None:
    view = torch.full((1, 28, 28), 100, dtype=torch.uint8)
    attention = np.zeros((3, 3))
    attention[2, 1] = 1.0
    attention[0, 2] = np.nan
    found = attention_picture(view, attention, side, (8, 8)).astype(int)
    source = np.arange(side) * 28 // side  # the view's row, or column, of each of the picture
    rows, columns = source[:, None] // 8, source[None, :] // 8
    grey = (found == found[..., :1]).all(-1)
    assert (found[(rows == 3) | (columns == 3)] == 100).all()  # of no patch
    assert grey[(rows == 0) & (columns == 2)].all()
    assert not grey[(rows < 3) & (columns < 3) & ~((rows == 0) & (columns == 2))].any()
    colours = np.unique(found[(rows == 2) & (columns == 1)], axis=0)
    others = np.unique(found[(rows == 1) & (columns < 3)], axis=0)
    assert len(colours) == len(others) == 1 and not np.array_equal(colours, others)
    everywhere = (found == colours[0]).all(-1)
    assert np.array_equal(everywhere, (rows == 2) & (columns == 1))
