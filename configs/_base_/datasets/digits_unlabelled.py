"""1,297 digits without labels, and few labels' accuracy on the other 500; a leaf names views."""

_base_ = ["./imagenet_unlabelled.py", "./digits.py"]

train_dataloader = dict(
    **_base_._digits_loader,
    dataset=dict(
        dataset=dict(_delete_=True, type="Digits", split="pretrain"),
        transform=dict(channels=1),
    ),
)
val_cfg = dict()
val_dataloader = dict(
    batch_size=256,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="LabelledImages",
        support=dict(type="Digits", split="pretrain"),
        query=dict(type="Digits", split="test"),
        transform=dict(type="EvalCrop", resize=None, crop=None, channels=1),
    ),
)
val_evaluator = dict(type="LowShotMetric", images_per_class=(1, 2, 5), splits=10)
test_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
