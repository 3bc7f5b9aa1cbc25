"""The digits ViT with all 1,297 labels, from scratch: what labels alone teach it.

    python tools/train.py configs/supervised_digits.py

As many steps and images as the digits configs of methods that learn without labels.
"""

_base_ = ["./finetune_digits.py", "./_base_/datasets/digits_lowshot.py"]

model = dict(backbone=dict(drop_path_rate=0.1))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
train_cfg = _base_._digits_length
default_hooks = _base_._digits_hooks
