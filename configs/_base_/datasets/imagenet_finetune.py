"""ImageNet-1K with labels, augmented by RandAugment(9, 0.5) and cut bicubically (C.4)."""

_base_ = ["./imagenet_labelled.py"]

train_dataloader = dict(
    dataset=dict(
        transform=dict(
            interpolation="bicubic",
            augment=[dict(type="RandAugmentRGB", magnitude_level=9, magnitude_std=0.5)],
        )
    )
)
val_dataloader = dict(
    batch_size=128,
    persistent_workers=True,
    dataset=dict(transform=dict(interpolation="bicubic")),
)
