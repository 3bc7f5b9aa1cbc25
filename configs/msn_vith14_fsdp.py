"""MSN ViT-H/14 with weights, gradients and optimizer state in shards over all processes.

    tools/dist_train.sh configs/msn_vith14_fsdp.py 8 --amp

Trains as configs/msn_vith14.py does, and their checkpoints load in each other.
"""

_base_ = ["./msn_vith14.py"]

model_wrapper_cfg = dict(type="FullyShardedModel")
