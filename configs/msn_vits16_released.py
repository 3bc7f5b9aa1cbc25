"""MSN ViT-S/16 with the schedules and the shared mask of the released code.

tools/dist_train.sh configs/msn_vits16_released.py 8
"""

_base_ = ["./_base_/msn_released.py"]
