"""Linear evaluation of the digits encoder of configs/msn_digits.py, on two CPU cores in minutes.

    python tools/train.py configs/linear_digits.py --cfg-options model.encoder.checkpoint=PTH

The recipe of appendix C.3 at a batch of 256, the learning rate scaled to it. No
flips: a digit means something else in the mirror.
"""

_base_ = ["./_base_/linear.py"]

model = dict(encoder=dict(config="configs/msn_digits.py"), num_classes=10, image_size=32)
global_batch_size = 256
accumulation = 1
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        dataset=dict(_delete_=True, type="Digits", split="pretrain"),
        transform=dict(size=32, scale=(0.6, 1.0), flip=0.0, channels=1),
    ),
)
val_dataloader = dict(
    num_workers=0,
    dataset=dict(
        dataset=dict(_delete_=True, type="Digits", split="test"),
        transform=dict(resize=None, crop=None, channels=1),
    ),
)
