"""Few labels' accuracy on 500 digits, learnt from some of the other 1,297."""

test_cfg = dict()
test_dataloader = dict(
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
test_evaluator = dict(type="LowShotMetric", images_per_class=(1, 2, 5), splits=10)
