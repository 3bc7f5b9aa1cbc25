"""What the fast views are worth on digits, which are turned, sheared and bent, not jittered.

python tools/sweep.py configs/sweeps/reference_views_digits.py
"""

_base_ = ["./_base_/reference_views.py", "./_base_/digits.py"]
