"""ViT-B/16 fine-tuned on CIFAR-10, 1,000 epochs (appendix C.5); downloads the data once.

    python tools/finetune.py configs/finetune_vitb16_cifar10.py CHECKPOINT --amp

Published (not measured here): 99.0 %. Images are enlarged to 224 pixels, as DeiT does.
"""

_base_ = ["./_base_/finetune_transfer.py", "./_base_/datasets/imagenet_finetune.py"]

data_root = "data/cifar10"
model = dict(head=dict(num_classes=10))
global_batch_size = 768
base_batch_size = 768
optim_wrapper = dict(optimizer=dict(lr=7.5e-5))
train_cfg = dict(max_epochs=1000)
train_dataloader = dict(
    dataset=dict(dataset=dict(_delete_=True, type="CIFAR10", data_root=data_root, split="train"))
)
val_dataloader = dict(
    dataset=dict(dataset=dict(_delete_=True, type="CIFAR10", data_root=data_root, split="test"))
)
