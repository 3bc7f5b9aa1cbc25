"""What the fast views are worth on small photographs in folders, a few minutes a run on one core.

    python tools/sweep.py configs/sweeps/reference_views_photographs.py \
        --cfg-options data_root=path/to/train

Below ``data_root`` lies a folder for each class, and beside it ``test`` with the same.
"""

_base_ = ["./_base_/reference_views.py"]

config = "configs/msn_photographs.py"
seeds = (0, 1, 2)
evaluation = dict(images_per_class=(1, 2, 5), splits=20, knn=(10,))
