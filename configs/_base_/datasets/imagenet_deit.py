"""ImageNet-1K with labels, augmented by RandAugment(9, 0.5) and random erasing (DeiT, table 9)."""

_base_ = ["./imagenet_labelled.py"]

train_dataloader = dict(
    dataset=dict(
        transform=dict(
            interpolation="bicubic",
            augment=[
                dict(type="RandAugmentRGB", magnitude_level=9, magnitude_std=0.5),
                dict(
                    type="RandomErasing",
                    erase_prob=0.25,
                    min_area_ratio=0.02,
                    max_area_ratio=1 / 3,
                    mode="rand",
                    fill_color=[123.675, 116.28, 103.53],
                    fill_std=[58.395, 57.12, 57.375],
                ),
            ],
        )
    )
)
val_dataloader = dict(
    batch_size=128,
    persistent_workers=True,
    dataset=dict(transform=dict(interpolation="bicubic")),
)
