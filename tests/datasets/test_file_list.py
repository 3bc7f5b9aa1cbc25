"""Image files that are named one by one."""

from __future__ import annotations

import pytest

from msn_mm.datasets import EvalCrop, EvaluationImages, FileList
from msn_mm.registry import DATASETS


def test_files_keep_their_order_and_labels() -> None:
    data = FileList(["b/2.png", "a/1.png"], [1, 0], ["cat", "dog"])
    images = EvaluationImages(data, EvalCrop())
    assert images.paths == ["b/2.png", "a/1.png"] and images.classes == ("cat", "dog")
    assert images.labels is not None and images.labels.tolist() == [1, 0]
    plain = EvaluationImages(DATASETS.build(dict(type="FileList", paths=["x.png"])), EvalCrop())
    assert plain.labels is None and plain.classes is None
    with pytest.raises(ValueError, match="1 labels for 2 files"):
        FileList(["a", "b"], [0])
