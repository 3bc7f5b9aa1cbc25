"""iBOT ViT-S/16, 800 epochs, batch 1,024.

    tools/dist_train.sh configs/ibot_vits16.py 8

Settings of https://github.com/bytedance/ibot. Published (not measured here): 77.9 % linear,
75.2 % k-NN on ImageNet-1K.
"""

_base_ = [
    "./_base_/ibot.py",
    "./_base_/datasets/imagenet_dino.py",
    "./_base_/datasets/imagenet_lowshot.py",
]
