"""MSN on thousands of small photographs, such as CIFAR-10's as files, on one CPU core.

    python tools/train.py configs/msn_photographs.py --cfg-options data_root=path/to/train

Labels, of which the training sees none, are the names of the folders below ``data_root``
and below the folder ``test`` beside it. Images of other sizes are seen at 32 x 32 pixels;
mean and deviation are CIFAR-10's (``msn-mm image-stats`` tells yours).
"""

_base_ = ["./msn_cifar10.py"]

data_root = "data/photographs/train"
model = dict(
    backbone=dict(embed_dim=96, depth=4, num_heads=3),
    head=dict(hidden_dim=256, output_dim=64, num_prototypes=64),
)
global_batch_size = 64
base_batch_size = 64
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        dataset=dict(_delete_=True, type="ImageFolder", data_root=data_root),
        transform=dict(views=dict(focal=dict(num=2))),
    ),
)
train_cfg = dict(max_epochs=20, val_interval=20)
# Too short for a weight decay that rises: it stays at 0.04.
param_scheduler = [
    dict(type="LinearLR", start_factor=0.2, begin=0, end=2, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=2, convert_to_iter_based=True),
]
custom_hooks = [
    dict(type="EMAHook", momentum=0.97, end_momentum=1.0),
    *_base_.custom_hooks[1:],
]
val_dataloader = dict(
    num_workers=0,
    dataset=dict(
        support=dict(_delete_=True, type="ImageFolder", data_root=data_root, labels="folder"),
        query=dict(
            _delete_=True, type="ImageFolder", data_root="data/photographs/test", labels="folder"
        ),
        transform=dict(resize=32, crop=32),
    ),
)
test_dataloader = val_dataloader
