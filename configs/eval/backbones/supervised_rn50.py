"""Supervised ResNet-50 of torchvision (IMAGENET1K_V1).

    python tools/lowshot.py CONFIG CHECKPOINT --row configs/eval/backbones/supervised_rn50.py none

Published, not measured here: 76.7 mCE on ImageNet-C; torchvision's top-1 is 76.13 %.
Address: torchvision 0.29.2, ResNet50_Weights.IMAGENET1K_V1.
Licence: BSD-3-Clause (torchvision).
"""

model = dict(type="PlainResNet", layers=(3, 4, 6, 3))
checkpoint = dict(
    source="https://download.pytorch.org/models/resnet50-0676ba61.pth",
    license="BSD-3-Clause",
)
