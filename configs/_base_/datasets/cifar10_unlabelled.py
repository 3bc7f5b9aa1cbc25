"""CIFAR-10 without labels, and few labels' accuracy on its test split; a leaf names views."""

_base_ = ["./imagenet_unlabelled.py"]

data_root = "data/cifar10"
_cifar10_pixels = dict(mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7])

_cifar10_ops = [
    dict(type="HorizontalFlip", p=0.5),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8),
    dict(type="Grayscale", p=0.2),
]
_cifar10_large = dict(size=32, scale=(0.3, 1.0), ops=_cifar10_ops)
_cifar10_small = dict(size=16, scale=(0.1, 0.4), ops=_cifar10_ops)

train_dataloader = dict(
    dataset=dict(dataset=dict(_delete_=True, type="CIFAR10", data_root=data_root, split="train"))
)
val_cfg = dict()
val_dataloader = dict(
    batch_size=512,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="LabelledImages",
        support=dict(type="CIFAR10", data_root=data_root, split="train"),
        query=dict(type="CIFAR10", data_root=data_root, split="test"),
        transform=dict(type="EvalCrop", resize=None, crop=None),
    ),
)
val_evaluator = dict(type="LowShotMetric", images_per_class=(1, 2, 5), splits=10)
test_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
