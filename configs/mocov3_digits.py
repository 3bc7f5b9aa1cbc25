"""MoCo v3 on scikit-learn's handwritten digits, on two CPU cores in minutes.

    python tools/train.py configs/mocov3_digits.py

1,297 scans without labels for pre-training, 500 held out; the budget of
configs/msn_digits.py in steps and images. Both views are drawn alike: there is no
colour to tell them apart by.
"""

_base_ = ["./_base_/mocov3.py", "./_base_/datasets/digits_unlabelled.py"]

model = dict(
    data_preprocessor=_base_._digits_pixels,
    backbone=_base_._digits_vit,
    neck=dict(hid_channels=256, out_channels=64),
    head=dict(predictor=dict(hid_channels=256, out_channels=64)),
)
train_dataloader = dict(
    dataset=dict(
        transform=dict(views=dict(first=_base_._digits_large, second=_base_._digits_large))
    )
)
global_batch_size = _base_._digits_batch
base_batch_size = _base_._digits_batch
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=20),
    dict(_base_.param_scheduler[1], begin=20),
]
train_cfg = _base_._digits_length
custom_hooks = [
    dict(type="EMAHook", momentum=0.97, end_momentum=1.0, schedule="cosine"),
    *_base_.custom_hooks[1:],
]
default_hooks = _base_._digits_hooks
