"""Supervised ResNet-50 of torchvision (IMAGENET1K_V1) with its head; also for files of one's own.

    python tools/robustness.py configs/eval/classifiers/supervised_rn50.py none --imagenet-c DIR

Published, not measured here: 0.04, 36.11 and 24.2 % on ImageNet-A, -R and -Sketch, 76.7 mCE on
ImageNet-C (table 14). CHECKPOINT may be any classifier of ImageNet in a known format that is
evaluated on 224 pixels out of 256, bilinear.
Address: torchvision 0.29.2, ResNet50_Weights.IMAGENET1K_V1.
Licence: BSD-3-Clause (torchvision).
"""

_base_ = ["../../_base_/datasets/imagenet_lowshot.py"]

checkpoint = dict(
    source="https://download.pytorch.org/models/resnet50-0676ba61.pth",
    license="BSD-3-Clause",
)
