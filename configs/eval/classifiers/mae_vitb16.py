"""MAE ViT-B/16, fine-tuned on ImageNet-1K: a classifier with its head.

    python tools/robustness.py configs/eval/classifiers/mae_vitb16.py none --imagenet-c DIR

Published, not measured here: 35.9, 48.3 and 34.5 % on ImageNet-A, -R and -Sketch, 51.7 mCE on
ImageNet-C (table 14); 83.664 % top-1 on ImageNet.
Address: facebookresearch/mae, FINETUNE.md, at 2f170f2350a36f5d70f2e51e04c9b3e2b88be703.
Licence: CC BY-NC 4.0.
"""

_base_ = ["../../_base_/datasets/imagenet_lowshot.py"]

checkpoint = dict(
    source="https://dl.fbaipublicfiles.com/mae/finetune/mae_finetuned_vit_base.pth",
    license="CC-BY-NC-4.0",
)
# As its authors evaluate it.
test_dataloader = dict(dataset=dict(transform=dict(interpolation="bicubic")))
