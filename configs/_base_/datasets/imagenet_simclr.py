"""ImageNet-1K in SimCLR's views: two alike, colour distortion of strength 1 (appendix A).

The paper blurs with a kernel of a tenth of the image, 11 pixels to each side, and a
standard deviation between 0.1 and 2; here the kernel ends at three deviations of 2, 6
pixels, beyond which lies less than 0.3 % of its weight. Cuts are resampled bicubically, as in
the authors' code.
"""

_base_ = ["./imagenet_unlabelled.py"]

_ops = [
    dict(type="HorizontalFlip", p=0.5),
    dict(type="ColorJitter", brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, p=0.8),
    dict(type="Grayscale", p=0.2),
    dict(type="GaussianBlur", p=0.5, radius=(0.1, 2.0)),
]

_view = dict(size=224, scale=(0.08, 1.0), interpolation="bicubic", num=2, ops=_ops)

train_dataloader = dict(dataset=dict(transform=dict(views=dict(view=_view))))
