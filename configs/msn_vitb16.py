"""MSN ViT-B/16, 600 epochs, mask 0.3.

    tools/dist_train.sh configs/msn_vitb16.py 8

Published (not measured here): 69.6 % with 1 % of ImageNet-1K's labels.
"""

_base_ = [
    "./_base_/msn.py",
    "./_base_/datasets/imagenet_msn.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

model = dict(backbone=dict(name="vit_base_patch16_224"), mask_ratio=dict(anchor=0.3))
train_cfg = dict(max_epochs=600)
