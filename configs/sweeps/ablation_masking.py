"""Which patches the anchors lose: none, all but a small crop, random ones, or both; ViT-B/16.

    python tools/sweep.py configs/sweeps/ablation_masking.py --jobs slurm:PARTITION

The anchor views of a strategy that has none are left out; the target stays whole.
"""

_base_ = ["./_base_/masking.py", "./_base_/imagenet.py"]

config = "configs/msn_vitb16.py"
