"""ImageNet-1K with labels, cut, flipped and augmented by RandAugment(9, 0.5) (C.4).

data_root, the folder of the training images, moves those of validation along:
with data_root=x/train they are looked for in x/val.
"""

# The batch over all processes and accumulation steps; a process takes its share.
global_batch_size = 1024
accumulation = 1

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
        transform=dict(
            type="LabelledCrop",
            size=224,
            interpolation="bicubic",
            augment=[dict(type="RandAugmentRGB", magnitude_level=9, magnitude_std=0.5)],
        ),
    ),
)
val_cfg = dict()
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="labelled_collate"),
    dataset=dict(
        type="LabelledViews",
        dataset=dict(type="ImageFolder", data_root="data/imagenet/val", labels="folder"),
        transform=dict(type="EvalCrop", resize=256, crop=224, interpolation="bicubic"),
        max_tries=1,
    ),
)
val_evaluator = dict(type="Accuracy", topk=(1, 5))
