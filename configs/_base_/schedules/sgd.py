"""SGD with steps down, as torchvision's reference trains ResNets.

Source: https://github.com/pytorch/vision/tree/main/references/classification
"""

# The batch over all processes and accumulation steps; a process takes its share.
global_batch_size = 256
accumulation = 1
# The global batch that the learning rate is stated for; another one scales it.
base_batch_size = 256

# Everything is decayed, biases and batch norms too.
optim_wrapper = dict(
    type="GroupOptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [dict(type="MultiStepLR", milestones=[30, 60], gamma=0.1)]
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)

val_cfg = dict()
val_evaluator = dict(type="TopAccuracy", topk=(1, 5))
