"""Accuracy away from the images that a classifier was trained on (appendix F, table 14)."""
