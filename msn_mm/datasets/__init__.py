"""Data sets, samplers, and the transforms that cut views."""

from msn_mm.datasets.collate import multi_view_collate
from msn_mm.datasets.keys import SampleKey
from msn_mm.datasets.multi_crop import MultiCrop
from msn_mm.datasets.multi_view_dataset import MultiViewDataset
from msn_mm.datasets.sampler import KeyedSampler

__all__ = [
    "KeyedSampler",
    "MultiCrop",
    "MultiViewDataset",
    "SampleKey",
    "multi_view_collate",
]
