"""Sinkhorn and the weight of the entropy term: the three rows of table 11 (appendix E.1).

python tools/sweep.py configs/sweeps/ablation_sinkhorn.py --jobs slurm:PARTITION
"""

_base_ = ["./_base_/sinkhorn.py", "./_base_/imagenet.py"]

config = "configs/msn_vits16.py"
