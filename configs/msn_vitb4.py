"""MSN ViT-B/4, 300 epochs, mask 0.7.

    tools/dist_train.sh configs/msn_vitb4.py 8

Published (not measured here): 75.7 % with 1 % of ImageNet-1K's labels.
"""

_base_ = [
    "./_base_/msn.py",
    "./_base_/datasets/imagenet_msn.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

model = dict(
    backbone=dict(name="vit_base_patch16_224", patch_size=4),
    mask_ratio=dict(anchor=0.7),
    # 24 GiB a GPU predicted with --amp on 8, 41 without; all views at once would take 266 and 473.
    micro_batch=64,
)
train_cfg = dict(max_epochs=300)
