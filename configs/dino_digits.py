"""DINO on scikit-learn's handwritten digits, on two CPU cores in minutes.

python tools/train.py configs/dino_digits.py
"""

_base_ = ["./_base_/dino.py", "./_base_/datasets/digits_unlabelled.py"]

model = dict(
    data_preprocessor=_base_._digits_pixels,
    backbone=_base_._digits_vit,
    # Digits are so alike that without batch norm the head gives all of them one output.
    head=dict(hidden_dim=256, bottleneck_dim=64, output_dim=128, batch_norm=True, init_std=0.1),
)
train_dataloader = dict(
    dataset=dict(
        transform=dict(
            views=dict(
                global_1=_base_._digits_large,
                global_2=_base_._digits_large,
                local=dict(_base_._digits_small, num=2),
            )
        )
    )
)
global_batch_size = _base_._digits_batch
base_batch_size = _base_._digits_batch
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = _base_._digits_length
custom_hooks = [
    dict(type="EMAHook", momentum=0.99, end_momentum=1.0, schedule="cosine"),
    _base_.custom_hooks[1],
    dict(_base_.custom_hooks[2], end=0.04),
    *_base_.custom_hooks[3:],
]
default_hooks = _base_._digits_hooks
