"""MoCo v3 ViT-B/16, 300 epochs.

    tools/dist_train.sh configs/mocov3_vitb16.py 8

Published (not measured here): 76.7 % by a linear classifier on all of ImageNet-1K's
labels (arXiv 2104.02057, table 4); 37.4, 48.3 and 58.0 % with 1, 2 and 5 labels a
class (arXiv 2204.07141, table 10).
"""

_base_ = [
    "./_base_/mocov3.py",
    "./_base_/datasets/imagenet_mocov3.py",
    "./_base_/datasets/imagenet_lowshot.py",
]
