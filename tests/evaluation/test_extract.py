from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msn_mm.errors import UserError
from msn_mm.evaluation import extract

from .stand_ins import ToyEncoder, ToyLabelled


def test_features_labels_and_roles_in_order_of_the_data() -> None:
    data, model = ToyLabelled(), ToyEncoder()
    result = extract(model, DataLoader(data, batch_size=7))
    expected = model.linear(data.images.float().flatten(1) / 255).detach().numpy()
    # no dropout: the model ran in evaluation mode
    np.testing.assert_allclose(result.features, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(result.labels, data.labels.numpy())
    np.testing.assert_array_equal(result.support, data.support.numpy())
    assert result.labels.dtype == np.int64 and result.features.dtype == np.float32


def test_modes_come_back_one_by_one_also_after_an_error() -> None:
    model = ToyEncoder().train()
    model.dropout.eval()
    extract(model, DataLoader(ToyLabelled(), batch_size=45))
    assert model.training and model.linear.training and not model.dropout.training
    with pytest.raises(RuntimeError):
        extract(
            model,
            [{"inputs": torch.zeros(2, 1, 9, 9), "data_samples": {"label": [0], "support": [1]}}],
        )
    assert model.training and model.linear.training and not model.dropout.training


def test_bfloat16_features_become_float32() -> None:
    class Half(ToyEncoder):
        def forward(self, *args: object, **kwargs: object) -> object:
            return super().forward(*args, **kwargs).bfloat16()  # type: ignore[arg-type]

    result = extract(Half(), DataLoader(ToyLabelled(), batch_size=9))
    assert result.features.dtype == np.float32


def test_an_empty_loader_is_named() -> None:
    with pytest.raises(UserError, match="no images"):
        extract(ToyEncoder(), [])
