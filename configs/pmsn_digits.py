"""PMSN on scikit-learn's handwritten digits: configs/msn_digits.py towards a power law.

python tools/train.py configs/pmsn_digits.py
"""

_base_ = ["./msn_digits.py"]

model = dict(
    loss=dict(type="PMSNLoss", exponent=0.25, me_max_weight=5.0, sinkhorn_iterations=0),
)
