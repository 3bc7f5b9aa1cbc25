"""CIFAR-100: 100 classes, 50,000 training and 10,000 test images; downloads 161 MiB once.

    python tools/transfer.py CONFIG CHECKPOINT --data cifar100

Published with ViT-B/16 (not measured here): 82.8 %.
"""

data_root = "data/cifar100"
data = dict(
    support=dict(type="CIFAR100", split="train"),
    query=dict(type="CIFAR100", split="test"),
)
