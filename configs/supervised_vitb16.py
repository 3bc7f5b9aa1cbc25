"""ViT-B/16 with labels, from scratch: 300 epochs of DeiT's recipe.

    tools/dist_train.sh configs/supervised_vitb16.py 8 --amp

Source: arXiv 2012.12877, table 9; without its repeated augmentation. Published, not
measured here: 81.8 %.
"""

_base_ = [
    "./_base_/supervised_vit.py",
    "./_base_/datasets/imagenet_deit.py",
    "./_base_/datasets/imagenet_lowshot.py",
]
