"""SimCLR on a ResNet-101, 1,000 epochs; the checkpoint is that of configs/eval/backbones.

    tools/dist_train.sh configs/simclr_rn101.py 32 --amp

Source: arXiv 2002.05709. Published, not measured here: 33.5, 42.7 and 52.0 % with 1, 2
and 5 labels a class (arXiv 2204.07141, table 10).
"""

_base_ = ["./simclr_rn50.py"]

model = dict(backbone=dict(layers=(3, 4, 23, 3)))
