"""ImageNet-1K with labels: random resized crop and flip to train on, the centre to measure on.

One folder a class in train and in val. data_root, the folder of the training
images, moves both: with data_root=x/train validation images are looked for in x/val.
"""

train_dataloader = dict(
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="KeyedSampler", shuffle=True),
    collate_fn=dict(type="labelled_collate"),
    dataset=dict(
        type="LabelledViews",
        dataset=dict(type="ImageFolder", data_root="data/imagenet/train", labels="folder"),
        transform=dict(type="LabelledCrop", size=224, scale=(0.08, 1.0), flip=0.5),
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="labelled_collate"),
    dataset=dict(
        type="LabelledViews",
        dataset=dict(type="ImageFolder", data_root="data/imagenet/val", labels="folder"),
        transform=dict(type="EvalCrop", resize=256, crop=224),
        max_tries=1,
    ),
)
