"""ImageNet-1K in MSN's views: 1 target, 1 anchor and 10 focal views an image (C.1)."""

_base_ = ["./imagenet_unlabelled.py"]

_ops = [
    dict(type="HorizontalFlip", p=0.5),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8),
    dict(type="Grayscale", p=0.2),
    dict(type="GaussianBlur", p=0.5, radius=(0.1, 2.0)),
]

train_dataloader = dict(
    dataset=dict(
        transform=dict(
            views=dict(
                target=dict(size=224, scale=(0.3, 1.0), ops=_ops),
                anchor=dict(size=224, scale=(0.3, 1.0), ops=_ops),
                focal=dict(size=96, scale=(0.05, 0.3), num=10, ops=_ops),
            )
        )
    )
)
