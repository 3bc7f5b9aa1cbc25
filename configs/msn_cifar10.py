"""MSN ViT-Ti/4 on CIFAR-10 (32 x 32), a recipe for one GPU; downloads the data once.

    python tools/train.py configs/msn_cifar10.py --amp

Every 20 epochs it prints low-shot and k-NN accuracy on the test split. The
recipe scales appendix C.1 down (smaller views, head and batch); its accuracy
has not been measured.
"""

_base_ = ["./_base_/msn_own_images.py"]

data_root = "data/cifar10"
view_ops = [
    dict(type="HorizontalFlip", p=0.5),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8),
    dict(type="Grayscale", p=0.2),
]

model = dict(
    data_preprocessor=dict(mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7]),
    backbone=dict(name="vit_tiny_patch16_224", img_size=32, patch_size=4),
    head=dict(hidden_dim=1024, output_dim=128, num_prototypes=256),
)

global_batch_size = 512
base_batch_size = 512
train_dataloader = dict(
    dataset=dict(
        dataset=dict(_delete_=True, type="CIFAR10", data_root=data_root, split="train"),
        transform=dict(
            views=dict(
                target=dict(size=32, ops=view_ops),
                anchor=dict(size=32, ops=view_ops),
                focal=dict(size=16, scale=(0.1, 0.4), num=6, ops=view_ops),
            )
        ),
    )
)
train_cfg = dict(max_epochs=400, val_interval=20)

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
