"""MAE ViT-L/16, 1600 epochs.

    tools/dist_train.sh configs/mae_vitl16.py 8

Published (not measured here): 85.9 % fine-tuned on all of ImageNet-1K's
labels (arXiv 2111.06377, table 3); 12.3, 19.3 and 42.3 % with 1, 2 and 5
labels a class (the last block fine-tuned where that is better; arXiv 2204.07141, table 2).
"""

_base_ = [
    "./_base_/mae.py",
    "./_base_/datasets/imagenet_mae.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

model = dict(backbone=dict(name="vit_large_patch16_224"))
