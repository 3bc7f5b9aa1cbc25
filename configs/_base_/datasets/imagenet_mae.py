"""ImageNet-1K in MAE's views: one random resized crop an image, mirrored or not (table 8)."""

_base_ = ["./imagenet_unlabelled.py"]

train_dataloader = dict(
    dataset=dict(
        transform=dict(
            views=dict(
                image=dict(
                    size=224,
                    scale=(0.2, 1.0),
                    interpolation="bicubic",
                    ops=[dict(type="HorizontalFlip", p=0.5)],
                )
            )
        )
    )
)
