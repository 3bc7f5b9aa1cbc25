"""RCDM on scikit-learn's handwritten digits, on two CPU cores in minutes.

    python tools/rcdm.py train configs/rcdm_digits.py --backbone work_dirs/demo/epoch_180.pth

The encoder sees 32 x 32 pixels, samples have 16 x 16: the scans have 8 x 8.
"""

_base_ = [
    "./_base_/rcdm.py",
    "./_base_/datasets/digits_unlabelled.py",
]

model = dict(
    data_preprocessor=dict(mean=[127.5], std=[127.5]),
    encoder=dict(config="configs/msn_digits.py"),
    image_size=16,
    encoder_size=32,
    unet=dict(
        channels=(32, 64, 64),
        attention=(False, True, True),
        layers=1,
        head_dim=32,
        groups=8,
        condition_width=128,
    ),
    schedule=dict(betas="squaredcos_cap_v2"),
    gradient_checkpointing=False,
)
train_dataloader = dict(
    dataset=dict(
        transform=dict(views=dict(image=dict(size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0))))
    )
)
global_batch_size = 32
base_batch_size = 32
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, eta_min=1e-5, convert_to_iter_based=True),
]
custom_hooks = [
    dict(type="EMAHook", momentum=0.95, end_momentum=0.995),
    *_base_.custom_hooks[1:],
]
train_cfg = dict(by_epoch=True, max_epochs=16)
# Samples are looked at, not validated.
val_cfg = None
val_dataloader = None
val_evaluator = None
default_hooks = dict(checkpoint=dict(interval=8))
