"""MSN ViT-S/16, 800 epochs, mask 0.15.

    tools/dist_train.sh configs/msn_vits16.py 8

Published (not measured here): 66.4 % with 1 % of ImageNet-1K's labels for this
recipe; 67.2 % without Sinkhorn and with lambda = 5 (msn_vits16_nosinkhorn.py).
"""

_base_ = [
    "./_base_/msn.py",
    "./_base_/datasets/imagenet_msn.py",
    "./_base_/datasets/imagenet_lowshot.py",
]
