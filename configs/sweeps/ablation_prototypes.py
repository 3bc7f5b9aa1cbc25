"""How many prototypes: table 12 (appendix E.2), ViT-B/16.

python tools/sweep.py configs/sweeps/ablation_prototypes.py --jobs slurm:PARTITION
"""

_base_ = ["./_base_/imagenet.py"]

title = "Number of prototypes (table 12)"
config = "configs/msn_vitb16.py"
runs = [
    dict(label="512", options={"model.head.num_prototypes": 512}, published=67.6),
    dict(label="1024", options={"model.head.num_prototypes": 1024}, published=69.5),
    dict(label="2048", options={"model.head.num_prototypes": 2048}, published=69.5),
]
