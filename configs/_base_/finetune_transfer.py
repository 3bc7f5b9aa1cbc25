"""Transfer fine-tuning of a ViT-B/16 as appendix C.5 describes it; a leaf adds the data.

C.5 names no layer-wise decay; neither do the protocols of DeiT and DINO, which it follows.
"""

_base_ = ["./models/classifier_vitb16.py", "./schedules/finetune.py", "./runtime/default.py"]

model = dict(backbone=dict(drop_path_rate=0.1))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0), optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=300, val_interval=10)
custom_hooks = [dict(type="ClassCountHook"), *_base_.custom_hooks]
