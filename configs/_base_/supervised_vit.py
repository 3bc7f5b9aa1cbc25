"""A ViT with labels from scratch as DeiT trains it (arXiv 2012.12877, table 9); a leaf adds data.

It is the recipe of fine-tuning without layer-wise decay, at DeiT's rates. Left out of
DeiT's: repeated augmentation, which shows each image of a batch three times.
"""

_base_ = ["./models/classifier_vitb16.py", "./schedules/finetune.py", "./runtime/default.py"]

model = dict(backbone=dict(drop_path_rate=0.1))
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=1.0),
    # 0.0005 * batch / 512
    optimizer=dict(lr=1e-3),
)
param_scheduler = [
    # From 1e-6, and back to 1e-5.
    dict(type="LinearLR", start_factor=1e-3, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=300, val_interval=10)
custom_hooks = [dict(type="ClassCountHook"), *_base_.custom_hooks]
