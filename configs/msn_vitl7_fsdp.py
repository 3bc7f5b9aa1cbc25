"""MSN ViT-L/7 with weights, gradients and optimizer state in shards over all processes.

    tools/dist_train.sh configs/msn_vitl7_fsdp.py 8 --amp

Trains as configs/msn_vitl7.py does, and their checkpoints load in each other.
"""

_base_ = ["./msn_vitl7.py"]

# Micro-batches would fetch all of a trunk's shards for each, blocks only their own.
model = dict(backbone=dict(checkpointing=True), micro_batch=None)
model_wrapper_cfg = dict(type="FullyShardedModel")
