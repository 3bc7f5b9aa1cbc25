"""The schedule of appendix C.5, as for iNaturalist.

C.5 names no layer-wise decay; neither do the protocols of DeiT and DINO, which it follows.
"""

_base_ = ["./finetune.py"]

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0), optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=300, val_interval=10)
