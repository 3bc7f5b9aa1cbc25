"""ViT-S/16 with labels, from scratch: 300 epochs of DeiT's recipe.

    tools/dist_train.sh configs/supervised_vits16.py 8 --amp

Published, not measured here: 79.8 % (arXiv 2012.12877, with repeated augmentation).
"""

_base_ = ["./supervised_vitb16.py"]

model = dict(backbone=dict(name="vit_small_patch16_224"))
