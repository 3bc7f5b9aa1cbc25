"""MAE on scikit-learn's handwritten digits, on two CPU cores in minutes.

    python tools/train.py configs/mae_digits.py

1,297 scans without labels for pre-training, 500 held out; the budget of
configs/msn_digits.py in steps and images.
"""

_base_ = ["./_base_/mae.py", "./_base_/datasets/digits_unlabelled.py"]

model = dict(
    data_preprocessor=_base_._digits_pixels,
    backbone=_base_._digits_vit,
    decoder=dict(decoder_embed_dim=64, decoder_depth=2, decoder_num_heads=4),
)
train_dataloader = dict(dataset=dict(transform=dict(views=dict(image=_base_._digits_large))))
global_batch_size = _base_._digits_batch
base_batch_size = _base_._digits_batch
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=20),
    dict(_base_.param_scheduler[1], begin=20),
]
train_cfg = _base_._digits_length
default_hooks = _base_._digits_hooks
