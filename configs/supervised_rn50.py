"""ResNet-50 with labels, from scratch: 90 epochs of torchvision's first recipe.

    tools/dist_train.sh configs/supervised_rn50.py 8 --amp

Published, not measured here: 76.13 % (torchvision's IMAGENET1K_V1, whose batch norm sees the
32 images of one GPU; here it sees all 256).
"""

_base_ = [
    "./_base_/models/classifier_rn50.py",
    "./_base_/schedules/sgd.py",
    "./_base_/runtime/default.py",
    "./_base_/datasets/imagenet_labelled.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

custom_hooks = [dict(type="ClassCountHook"), *_base_.custom_hooks]
