"""ImageNet-1K in MoCo v3's two views: both like BYOL's, cut from 8 % of the image upwards."""

_base_ = ["./imagenet_unlabelled.py"]

_colour = [
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, p=0.8),
    dict(type="Grayscale", p=0.2),
]
_flip = dict(type="HorizontalFlip", p=0.5)

train_dataloader = dict(
    dataset=dict(
        transform=dict(
            views=dict(
                first=dict(
                    size=224,
                    scale=(0.08, 1.0),
                    ops=[*_colour, dict(type="GaussianBlur", p=1.0, radius=(0.1, 2.0)), _flip],
                ),
                second=dict(
                    size=224,
                    scale=(0.08, 1.0),
                    ops=[
                        *_colour,
                        dict(type="GaussianBlur", p=0.1, radius=(0.1, 2.0)),
                        dict(type="Solarize", p=0.2, threshold=128),
                        _flip,
                    ],
                ),
            )
        )
    )
)
