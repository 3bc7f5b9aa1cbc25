"""BYOL on a ResNet-50: projector and predictor of 4096 and 256 (arXiv 2006.07733, section 3.3)."""

# Batch norm and ReLU behind the first layer, nothing behind the last.
_mlp = dict(
    type="NonLinearNeck",
    hid_channels=4096,
    out_channels=256,
    num_layers=2,
    with_bias=True,
    with_last_bn=False,
    with_avg_pool=False,
    norm_cfg=dict(type="SyncBatchNorm"),
)

model = dict(
    type="BYOL",
    data_preprocessor=dict(
        type="MultiViewPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(type="PlainResNet", layers=(3, 4, 6, 3)),
    neck=_mlp,
    head=dict(
        type="LatentPredictHead",
        predictor=_mlp,
        # 2 - 2 cos: the squared distance of vectors of length 1.
        loss=dict(type="CosineSimilarityLoss", shift_factor=2.0, scale_factor=2.0),
    ),
)
