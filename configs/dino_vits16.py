"""DINO ViT-S/16, 800 epochs, batch 1,024.

    tools/dist_train.sh configs/dino_vits16.py 8

Settings of the released model (https://github.com/facebookresearch/dino): lengths of the last
layer's rows are learnt, gradients are not clipped. Published (not measured here): 77.0 %
linear, 74.5 % k-NN on ImageNet-1K.
"""

_base_ = [
    "./_base_/dino.py",
    "./_base_/datasets/imagenet_dino.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

model = dict(head=dict(norm_last_layer=False))
optim_wrapper = dict(clip_grad=None)
