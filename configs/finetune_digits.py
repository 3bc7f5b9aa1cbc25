"""Fine-tune configs/msn_digits.py on the labels of its 1,297 digits: minutes on two CPU cores.

    python tools/finetune.py configs/finetune_digits.py work_dirs/msn_digits/epoch_180.pth

The recipe of finetune_vitb16.py at the size of the data: no mirror images, smaller
crops, batch and length.
"""

_base_ = ["./_base_/finetune.py", "./_base_/datasets/digits_labelled.py"]

model = dict(
    data_preprocessor=_base_._digits_pixels,
    backbone=_base_._digits_vit,
    head=dict(num_classes=10),
)
global_batch_size = _base_._digits_batch
base_batch_size = _base_._digits_batch
train_dataloader = dict(
    dataset=dict(
        transform=dict(
            interpolation="bicubic",
            augment=[
                dict(
                    type="RandAugmentRGB",
                    magnitude_level=9,
                    magnitude_std=0.5,
                    pad_val=(0, 0, 0),
                )
            ],
        )
    )
)
val_dataloader = dict(batch_size=256)
train_cfg = dict(max_epochs=60, val_interval=5)
default_hooks = dict(checkpoint=dict(interval=10))
