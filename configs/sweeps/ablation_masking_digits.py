"""Masking strategies on digits; published is ViT-B/16 with 1 % of ImageNet-1K's labels.

python tools/sweep.py configs/sweeps/ablation_masking_digits.py
"""

_base_ = ["./_base_/masking.py", "./_base_/digits.py"]

published = "published, ImageNet 1 %"
