"""ImageNet-1K as ADM reads it: the central square, mirrored or not; a leaf names its side."""

_base_ = ["./imagenet_unlabelled.py"]

train_dataloader = dict(
    dataset=dict(
        transform=dict(
            views=dict(
                image=dict(
                    size=224,
                    # All of the largest central square.
                    scale=(1.0, 1.0),
                    ratio=(1.0, 1.0),
                    interpolation="bicubic",
                    ops=[dict(type="HorizontalFlip", p=0.5)],
                )
            )
        )
    )
)
