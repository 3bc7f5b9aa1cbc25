"""ImageNet-1K in DINO's views: 2 global, 10 local ones an image (arXiv 2104.14294)."""

_base_ = ["./imagenet_unlabelled.py"]

_colour = [
    dict(type="HorizontalFlip", p=0.5),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, p=0.8),
    dict(type="Grayscale", p=0.2),
]


def _blur(p):
    return dict(type="GaussianBlur", p=p, radius=(0.1, 2.0))


_global = dict(size=224, scale=(0.25, 1.0), interpolation="bicubic")
_local = dict(size=96, scale=(0.05, 0.25), interpolation="bicubic", num=10)

train_dataloader = dict(
    dataset=dict(
        transform=dict(
            views=dict(
                global_1=dict(_global, ops=[*_colour, _blur(1.0)]),
                global_2=dict(_global, ops=[*_colour, _blur(0.1), dict(type="Solarize", p=0.2)]),
                local=dict(_local, ops=[*_colour, _blur(0.5)]),
            )
        )
    )
)
