"""The three rows of table 11 on digits; published is ViT-S/16 with 1 % of ImageNet-1K's labels.

python tools/sweep.py configs/sweeps/ablation_sinkhorn_digits.py
"""

_base_ = ["./_base_/sinkhorn.py", "./_base_/digits.py"]

published = "published, ImageNet 1 %"
