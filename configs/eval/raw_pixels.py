"""Raw pixels as features: a row to compare with, without weights to load.

    python tools/extract.py configs/eval/raw_pixels.py none --images PATH

For grey images add `--cfg-options model.in_channels=1`.
"""

model = dict(type="RawPixels", in_channels=3)
data_preprocessor = dict(mean=[0.0], std=[1.0])
