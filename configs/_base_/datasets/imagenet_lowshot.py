"""ImageNet-1K with labels, for evaluation: training reads none of it.

One folder a class in train and in val. data_root, the folder of the training
images, moves both: with data_root=x/train the classifier learns from x/train and is
asked about x/val. test_dataloader.dataset.query.data_root names another place.
"""

test_cfg = dict()
test_dataloader = dict(
    batch_size=64,
    num_workers=8,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="LabelledImages",
        support=dict(type="ImageFolder", data_root="data/imagenet/train", labels="folder"),
        query=dict(type="ImageFolder", data_root="data/imagenet/val", labels="folder"),
        transform=dict(type="EvalCrop", resize=256, crop=224),
    ),
)
test_evaluator = dict(type="LowShotMetric", images_per_class=(1, 2, 5), splits=3)
