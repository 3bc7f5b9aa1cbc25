"""SimCLR on a ResNet-50, 1,000 epochs.

    tools/dist_train.sh configs/simclr_rn50.py 32 --amp

Source: arXiv 2002.05709, section 2 and appendix B. Published, not measured here: 69.3 %
on ImageNet by a linear classifier on the frozen network.
"""

_base_ = [
    "./_base_/simclr.py",
    "./_base_/datasets/imagenet_simclr.py",
    "./_base_/datasets/imagenet_lowshot.py",
]
