"""Linear evaluation of the digits encoder of configs/msn_digits.py, on two CPU cores in minutes.

    python tools/train.py configs/linear_digits.py --cfg-options model.encoder.checkpoint=PTH

The recipe of appendix C.3 at a batch of 256, the learning rate scaled to it.
"""

_base_ = ["./_base_/linear.py", "./_base_/datasets/digits_labelled.py"]

model = dict(encoder=dict(config="configs/msn_digits.py"), num_classes=10, image_size=32)
global_batch_size = 256
accumulation = 1
