"""ViT-B/16 fine-tuned on CIFAR-100, 1,000 epochs (appendix C.5); downloads the data once.

    python tools/finetune.py configs/finetune_vitb16_cifar100.py CHECKPOINT --amp

Published (not measured here): 90.5 %. Images are enlarged to 224 pixels, as DeiT does.
"""

_base_ = ["./finetune_vitb16_cifar10.py"]

data_root = "data/cifar100"
model = dict(head=dict(num_classes=100))
train_dataloader = dict(dataset=dict(dataset=dict(type="CIFAR100", data_root=data_root)))
val_dataloader = dict(dataset=dict(dataset=dict(type="CIFAR100", data_root=data_root)))
