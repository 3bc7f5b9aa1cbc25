"""BYOL on a ResNet-50, 1,000 epochs.

    tools/dist_train.sh configs/byol_rn50.py 32 --amp

Source: arXiv 2006.07733, section 3.3 and appendix B. Published, not measured here: 74.3 %
on ImageNet by a linear classifier on the frozen network. The authors' code has for 300
epochs (72.5 %): learning rate 0.3 * batch / 256, weight decay 1e-6, moving average from 0.99.
"""

_base_ = [
    "./_base_/byol.py",
    "./_base_/datasets/imagenet_byol.py",
    "./_base_/datasets/imagenet_lowshot.py",
]
