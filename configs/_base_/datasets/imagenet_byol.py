"""ImageNet-1K in BYOL's views: two, blurred and solarised unlike each other (appendix B, table 6).

The kernel of the blur ends at three deviations, 6 pixels to a side; the paper's at 11.
"""

_base_ = ["./imagenet_unlabelled.py"]

_colour = [
    dict(type="HorizontalFlip", p=0.5),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, p=0.8),
    dict(type="Grayscale", p=0.2),
]
_crop = dict(size=224, scale=(0.08, 1.0), interpolation="bicubic")

train_dataloader = dict(
    dataset=dict(
        transform=dict(
            views=dict(
                one=dict(
                    **_crop, ops=[*_colour, dict(type="GaussianBlur", p=1.0, radius=(0.1, 2.0))]
                ),
                two=dict(
                    **_crop,
                    ops=[
                        *_colour,
                        dict(type="GaussianBlur", p=0.1, radius=(0.1, 2.0)),
                        dict(type="Solarize", p=0.2, threshold=128),
                    ],
                ),
            )
        )
    )
)
