"""LARS at a batch of 4096, 10 epochs of warm-up and a cosine, as SimCLR and BYOL take them."""

# The batch over all processes and accumulation steps; a process takes its share.
global_batch_size = 4096
accumulation = 1
# The global batch that the learning rate is stated for; another one scales it.
base_batch_size = 4096

optim_wrapper = dict(
    type="GroupOptimWrapper",
    constructor="LARSGroupsConstructor",
    # 0.3 * batch / 256
    optimizer=dict(type="LARS", lr=4.8, momentum=0.9, weight_decay=1e-6, eta=0.001),
)

param_scheduler = [
    # Nearly from 0: a factor of 0 is none to MMEngine.
    dict(type="LinearLR", start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=10, convert_to_iter_based=True),
]

train_cfg = dict(by_epoch=True, max_epochs=1000)
