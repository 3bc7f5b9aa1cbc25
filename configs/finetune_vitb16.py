"""ViT-B/16 fine-tuned on all labels of ImageNet-1K, 100 epochs (appendix C.4).

    python tools/finetune.py configs/finetune_vitb16.py CHECKPOINT --amp

Published (not measured here): 83.4 %.
"""

_base_ = ["./_base_/finetune.py", "./_base_/datasets/imagenet_finetune.py"]
