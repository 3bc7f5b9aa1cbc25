"""ImageNet-1K without labels; a method's own file beside this one says in which views."""

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
        transform=dict(type="MultiCrop"),
    ),
)
