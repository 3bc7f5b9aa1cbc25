"""MSN on scikit-learn's handwritten digits, on two CPU cores in minutes.

    python tools/demo.py

1,297 scans without labels for pre-training, 500 held out. A digit means
something else in the mirror, so small rotations, shears and bends take the place of
flips, and there is no colour to jitter.
"""

_base_ = ["./_base_/msn_own_images.py"]

view_ops = [
    dict(type="Rotation", degrees=15.0),
    dict(type="Shear", degrees=15.0),
    dict(type="ElasticWarp", magnitude=0.1),
]

model = dict(
    data_preprocessor=dict(mean=[78.0], std=[90.0]),
    backbone=dict(
        name="vit_tiny_patch16_224",
        img_size=32,
        patch_size=8,
        in_chans=1,
        embed_dim=96,
        depth=4,
        num_heads=3,
    ),
    head=dict(hidden_dim=256, output_dim=64, num_prototypes=64),
)

global_batch_size = 64
base_batch_size = 64
train_dataloader = dict(
    # The images are in memory and the two cores belong to the model.
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        dataset=dict(_delete_=True, type="Digits", split="pretrain"),
        transform=dict(
            channels=1,
            views=dict(
                target=dict(size=32, scale=(0.6, 1.0), ops=view_ops),
                anchor=dict(size=32, scale=(0.6, 1.0), ops=view_ops),
                focal=dict(size=16, scale=(0.2, 0.6), num=2, ops=view_ops),
            ),
        ),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_epochs=180, val_interval=20)
custom_hooks = [
    dict(type="EMAHook", momentum=0.97, end_momentum=1.0),
    dict(type="CollapseMonitorHook"),
    dict(type="UnreadableImagesHook", max_bad_fraction=0.05),
    dict(type="ThroughputHook"),
]
default_hooks = dict(checkpoint=dict(interval=20))

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
