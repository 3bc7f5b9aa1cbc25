"""Fine-tune configs/msn_digits.py on the labels of its 1,297 digits: minutes on two CPU cores.

    python tools/finetune.py configs/finetune_digits.py work_dirs/msn_digits/epoch_180.pth

The recipe of finetune_vitb16.py at the size of the data: no mirror images, smaller
crops, batch, rate and length.
"""

_base_ = ["./_base_/finetune.py"]

model = dict(
    data_preprocessor=dict(mean=[78.0], std=[90.0]),
    backbone=dict(
        name="vit_tiny_patch16_224",
        img_size=32,
        patch_size=8,
        in_chans=1,
        embed_dim=96,
        depth=4,
        num_heads=3,
    ),
    head=dict(num_classes=10),
)

global_batch_size = 64
base_batch_size = 64
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        dataset=dict(_delete_=True, type="Digits", split="pretrain"),
        transform=dict(
            size=32,
            scale=(0.6, 1.0),
            flip=0.0,
            channels=1,
            augment=[
                dict(
                    type="RandAugmentRGB",
                    magnitude_level=9,
                    magnitude_std=0.5,
                    pad_val=(0, 0, 0),
                )
            ],
        ),
    ),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        dataset=dict(_delete_=True, type="Digits", split="test"),
        transform=dict(resize=None, crop=None, channels=1),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_epochs=60, val_interval=5)
default_hooks = dict(checkpoint=dict(interval=10))
