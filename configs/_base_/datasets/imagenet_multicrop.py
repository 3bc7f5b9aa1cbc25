"""ImageNet-1K without labels, as 1 target, 1 anchor and 10 focal views an image (C.1)."""

view_ops = [
    dict(type="HorizontalFlip", p=0.5),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8),
    dict(type="Grayscale", p=0.2),
    dict(type="GaussianBlur", p=0.5, radius=(0.1, 2.0)),
]

# The batch over all processes and accumulation steps; a process takes its share.
global_batch_size = 1024
accumulation = 1

train_dataloader = dict(
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="KeyedSampler", shuffle=True),
    collate_fn=dict(type="multi_view_collate"),
    dataset=dict(
        type="MultiViewDataset",
        dataset=dict(type="ImageFolder", data_root="data/imagenet/train"),
        transform=dict(
            type="MultiCrop",
            views=dict(
                target=dict(size=224, scale=(0.3, 1.0), ops=view_ops),
                anchor=dict(size=224, scale=(0.3, 1.0), ops=view_ops),
                focal=dict(size=96, scale=(0.05, 0.3), num=10, ops=view_ops),
            ),
        ),
    ),
)
