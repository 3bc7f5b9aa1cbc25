"""MSN ViT-Ti/4 on CIFAR-10 (32 x 32), a recipe for one GPU; downloads the data once.

    python tools/train.py configs/msn_cifar10.py --amp

Every 20 epochs it prints low-shot and k-NN accuracy on the test split. The
recipe scales appendix C.1 down (smaller views, head and batch); its accuracy
has not been measured.
"""

_base_ = ["./_base_/msn.py", "./_base_/datasets/cifar10_unlabelled.py"]

model = dict(
    data_preprocessor=_base_._cifar10_pixels,
    backbone=dict(name="vit_tiny_patch16_224", img_size=32, patch_size=4),
    head=dict(hidden_dim=1024, output_dim=128, num_prototypes=256),
)
train_dataloader = dict(
    dataset=dict(
        transform=dict(
            views=dict(
                target=_base_._cifar10_large,
                anchor=_base_._cifar10_large,
                focal=dict(_base_._cifar10_small, num=6),
            )
        )
    )
)
global_batch_size = 512
base_batch_size = 512
train_cfg = dict(max_epochs=400, val_interval=20)
