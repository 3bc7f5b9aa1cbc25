"""Linear evaluation of MSN ViT-S/16 on ImageNet-1K (appendix C.3).

    tools/dist_train.sh configs/linear_vits16.py 8 --cfg-options model.encoder.checkpoint=PTH

Published (not measured here): 76.9 % top-1 (tables 3 and 4). Another encoder: model.encoder.config.
"""

_base_ = ["./_base_/linear.py", "./_base_/datasets/imagenet_labelled.py"]
