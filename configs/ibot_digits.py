"""iBOT on scikit-learn's handwritten digits, on two CPU cores in minutes.

python tools/train.py configs/ibot_digits.py
"""

_base_ = ["./_base_/ibot.py", "./_base_/datasets/digits_unlabelled.py"]

model = dict(
    data_preprocessor=_base_._digits_pixels,
    backbone=_base_._digits_vit,
    head=dict(hidden_dim=256, bottleneck_dim=64, output_dim=128, init_std=0.1),
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
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = _base_._digits_length
custom_hooks = [
    dict(type="EMAHook", momentum=0.97, end_momentum=1.0, schedule="cosine"),
    *_base_.custom_hooks[1:],
]
default_hooks = _base_._digits_hooks
