"""Sharing of the view between anchor and target, on digits.

python tools/sweep.py configs/sweeps/ablation_view_sharing_digits.py
"""

_base_ = ["./_base_/view_sharing.py", "./_base_/digits.py"]
