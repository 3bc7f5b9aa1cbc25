"""What the sweeps on ImageNet share: the published length, 1 % of the labels."""

published = "published"
evaluation = dict(images_per_class=(), fractions=(0.01,), splits=1, knn=(20,))
