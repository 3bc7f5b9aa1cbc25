"""SimCLR on scikit-learn's handwritten digits, on two CPU cores in minutes.

    python tools/train.py configs/simclr_digits.py

1,297 scans without labels for pre-training, 500 held out; a small ResNet.
"""

_base_ = ["./_base_/simclr.py", "./_base_/datasets/digits_unlabelled.py"]

model = dict(
    data_preprocessor=_base_._digits_pixels,
    backbone=dict(_delete_=True, **_base_._digits_resnet),
    neck=dict(hid_channels=256, out_channels=64),
    # One of those that the paper tries on CIFAR-10 (appendix B.9).
    head=dict(temperature=0.5),
)
train_dataloader = dict(
    dataset=dict(transform=dict(views=dict(view=dict(_base_._digits_any, num=2))))
)
global_batch_size = _base_._digits_batch
base_batch_size = _base_._digits_batch
# 0.075 * sqrt(batch): the paper's rate for small batches (appendix B.1).
optim_wrapper = dict(optimizer=dict(lr=0.6))
train_cfg = _base_._digits_length
default_hooks = _base_._digits_hooks
