"""MSN ViT-H/14, mask 0.5: larger than any model of the paper.

    tools/dist_train.sh configs/msn_vith14.py 8

Mask and epochs are those of configs/msn_vitl16.py, whose views have nearly as
many patches; nobody has published a training of this size.
"""

_base_ = [
    "./_base_/msn.py",
    "./_base_/datasets/imagenet_msn.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

model = dict(
    backbone=dict(name="vit_huge_patch14_224"),
    mask_ratio=dict(anchor=0.5),
    # 29 GiB a GPU predicted with --amp on 8, 35 without; all views at once would take 104 and 170.
    micro_batch=64,
)
train_cfg = dict(max_epochs=600)
