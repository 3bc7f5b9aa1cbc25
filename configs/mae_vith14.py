"""MAE ViT-H/14, 1600 epochs.

    tools/dist_train.sh configs/mae_vith14.py 8

Published (not measured here): 86.9 % fine-tuned on all of ImageNet-1K's
labels (arXiv 2111.06377, table 3); 11.6, 18.6 and 32.8 % with 1, 2 and 5
labels a class (by a linear classifier; arXiv 2204.07141, table 2).
"""

_base_ = [
    "./_base_/mae.py",
    "./_base_/datasets/imagenet_mae.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

model = dict(backbone=dict(name="vit_huge_patch14_224", checkpointing=True))
