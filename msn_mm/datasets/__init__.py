"""Data sets, samplers, and the transforms that cut views."""

from msn_mm.datasets.arrow_images import ArrowImages
from msn_mm.datasets.collate import multi_view_collate
from msn_mm.datasets.decode import UnreadableImageError
from msn_mm.datasets.digits import Digits
from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.datasets.file_list import FileList
from msn_mm.datasets.held_out import HeldOut
from msn_mm.datasets.image_folder import ImageFolder
from msn_mm.datasets.inaturalist import INaturalist
from msn_mm.datasets.keys import SampleKey
from msn_mm.datasets.labelled_images import EvalCrop, LabelledImages
from msn_mm.datasets.labelled_views import LabelledCrop, LabelledViews, labelled_collate
from msn_mm.datasets.multi_crop import MultiCrop
from msn_mm.datasets.multi_view_dataset import MultiViewDataset
from msn_mm.datasets.parquet_images import ParquetImages
from msn_mm.datasets.rand_augment import RandAugmentRGB
from msn_mm.datasets.sampler import KeyedSampler
from msn_mm.datasets.tar_shards import TarShards

__all__ = [
    "ArrowImages",
    "Digits",
    "EvalCrop",
    "EvaluationImages",
    "FileList",
    "HeldOut",
    "INaturalist",
    "ImageFolder",
    "KeyedSampler",
    "LabelledCrop",
    "LabelledImages",
    "LabelledViews",
    "MultiCrop",
    "MultiViewDataset",
    "ParquetImages",
    "RandAugmentRGB",
    "SampleKey",
    "TarShards",
    "UnreadableImageError",
    "labelled_collate",
    "multi_view_collate",
]
