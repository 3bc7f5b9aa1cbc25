"""MSN ViT-B/8, 600 epochs, mask 0.3.

    tools/dist_train.sh configs/msn_vitb8.py 8

Published (not measured here): 55.1, 64.9 and 71.6 % with 1, 2 and 5 labels a class.
"""

_base_ = [
    "./_base_/msn.py",
    "./_base_/datasets/imagenet_msn.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

model = dict(backbone=dict(name="vit_base_patch8_224"), mask_ratio=dict(anchor=0.3))
train_cfg = dict(max_epochs=600)
