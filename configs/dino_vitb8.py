"""DINO ViT-B/8, 300 epochs, batch 1,056.

    tools/dist_train.sh configs/dino_vitb8.py 8 --cfg-options accumulation=12

Settings of the released model (https://github.com/facebookresearch/dino), which took 176
GPUs; parts of a batch are the same training as the whole. Published (not
measured here): 80.1 % linear, 77.4 % k-NN on ImageNet-1K.
"""

_base_ = [
    "./_base_/dino.py",
    "./_base_/datasets/imagenet_dino.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

model = dict(backbone=dict(name="vit_base_patch8_224"))
global_batch_size = 1056
param_scheduler = [
    _base_.param_scheduler[0],
    dict(type="CosineAnnealingLR", begin=10, eta_min=2e-6, convert_to_iter_based=True),
    _base_.param_scheduler[2],
]
train_cfg = dict(max_epochs=300)
custom_hooks = [
    *_base_.custom_hooks[:2],
    dict(type="TargetTemperatureHook", start=0.03, end=0.07, epochs=50),
    dict(type="FrozenLayerHook", module="head.last_layer", epochs=3),
    *_base_.custom_hooks[4:],
]
