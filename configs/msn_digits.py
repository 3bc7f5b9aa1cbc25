"""MSN on scikit-learn's handwritten digits, on two CPU cores in minutes.

    python tools/demo.py

1,297 scans without labels for pre-training, 500 held out.
"""

_base_ = ["./_base_/msn.py", "./_base_/datasets/digits_unlabelled.py"]

model = dict(
    data_preprocessor=_base_._digits_pixels,
    backbone=_base_._digits_vit,
    head=dict(hidden_dim=256, output_dim=64, num_prototypes=64),
)
train_dataloader = dict(
    dataset=dict(
        transform=dict(
            views=dict(
                target=_base_._digits_large,
                anchor=_base_._digits_large,
                focal=dict(_base_._digits_small, num=2),
            )
        )
    )
)
global_batch_size = _base_._digits_batch
base_batch_size = _base_._digits_batch
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = _base_._digits_length
custom_hooks = [
    dict(type="EMAHook", momentum=0.97, end_momentum=1.0),
    *_base_.custom_hooks[1:],
]
default_hooks = _base_._digits_hooks
