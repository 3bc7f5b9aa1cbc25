"""iBOT ViT-S/16, 800 epochs, batch 1,024.

    tools/dist_train.sh configs/ibot_vits16.py 8

Settings of https://github.com/bytedance/ibot, whose last learning rate is 1e-6. Published (not
measured here): 77.9 % linear, 75.2 % k-NN on ImageNet-1K.
"""

_base_ = [
    "./_base_/ibot.py",
    "./_base_/datasets/imagenet_dino.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

param_scheduler = [
    _base_.param_scheduler[0],
    dict(type="CosineAnnealingLR", begin=10, eta_min=1e-6, convert_to_iter_based=True),
    _base_.param_scheduler[2],
]
