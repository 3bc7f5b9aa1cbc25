"""Sinkhorn and the weight of the entropy term (appendix E.1, table 11) on digits.

    python tools/sweep.py configs/sweeps/ablation_sinkhorn_digits.py

Published is ViT-S/16 with 1 % of ImageNet-1K's labels; compare the order, not the level.
"""

title = "Sinkhorn and mean-entropy weight (table 11) on digits"
published = "published, ImageNet 1 %"
seeds = (0, 1, 2)
options = {
    "train_cfg.max_epochs": 60,
    "train_cfg.val_interval": 60,
}
runs = [
    dict(label="Sinkhorn, lambda 1", config="configs/msn_digits.py", published=66.4),
    dict(
        label="no Sinkhorn, lambda 1",
        config="configs/msn_digits.py",
        options={"model.loss.sinkhorn_iterations": 0},
        published=60.8,
    ),
    dict(
        label="no Sinkhorn, lambda 5",
        config="configs/msn_digits.py",
        options={"model.loss.sinkhorn_iterations": 0, "model.loss.me_max_weight": 5.0},
        published=67.2,
    ),
]
evaluation = dict(images_per_class=(1, 2, 5), splits=20, knn=(10,))
