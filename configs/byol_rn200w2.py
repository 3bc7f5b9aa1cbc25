"""BYOL on a ResNet-200 twice as wide, 1,000 epochs; as configs/eval/backbones/byol_rn200w2.py.

    tools/dist_train.sh configs/byol_rn200w2.py 64 --amp

Source: arXiv 2006.07733, which gives one recipe for all its networks. Published, not
measured here: 79.6 % on ImageNet by a linear classifier on the frozen network; 40.7, 52.7
and 62.9 % with 1, 2 and 5 labels a class (arXiv 2204.07141, table 10). Borders are JAX's, as
in the published weights.
"""

_base_ = ["./byol_rn50.py"]

model = dict(backbone=dict(layers=(3, 24, 36, 3), base_channels=128, padding="same"))
