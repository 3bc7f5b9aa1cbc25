"""BYOL on scikit-learn's handwritten digits, on two CPU cores in minutes.

    python tools/train.py configs/byol_digits.py

1,297 scans without labels for pre-training, 500 held out; a small ResNet. Strokes are
neither blurred nor turned into their negative, so both views are alike.
"""

_base_ = ["./_base_/byol.py", "./_base_/datasets/digits_unlabelled.py"]

model = dict(
    data_preprocessor=_base_._digits_pixels,
    backbone=dict(_delete_=True, **_base_._digits_resnet),
    neck=dict(hid_channels=256, out_channels=64),
    head=dict(predictor=dict(hid_channels=256, out_channels=64)),
)
train_dataloader = dict(
    dataset=dict(transform=dict(views=dict(view=dict(_base_._digits_any, num=2))))
)
global_batch_size = _base_._digits_batch
base_batch_size = _base_._digits_batch
optim_wrapper = dict(optimizer=dict(lr=0.6))
train_cfg = _base_._digits_length
custom_hooks = [
    dict(type="EMAHook", momentum=0.97, end_momentum=1.0, schedule="cosine"),
    *_base_.custom_hooks[1:],
]
default_hooks = _base_._digits_hooks
