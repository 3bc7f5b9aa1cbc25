"""Anchor and target from one augmented view, told apart by the mask alone; ViT-B/16.

    python tools/sweep.py configs/sweeps/ablation_view_sharing.py --jobs slurm:PARTITION

Random masks only: a focal view cannot be the target's.
"""

_base_ = ["./_base_/view_sharing.py", "./_base_/imagenet.py"]

config = "configs/msn_vitb16.py"
