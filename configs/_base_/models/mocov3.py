"""MoCo v3 on a ViT-B/16 with the published heads and temperature (arXiv 2104.02057, section 4)."""

_neck = dict(
    type="NonLinearNeck",
    hid_channels=4096,
    out_channels=256,
    with_last_bn_affine=False,
    with_avg_pool=False,
    norm_cfg=dict(type="SyncBatchNorm"),
)
model = dict(
    type="MoCoV3",
    data_preprocessor=dict(
        type="MultiViewPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(type="MaskedViT", name="vit_base_patch16_224", img_size=224),
    neck=dict(_neck, num_layers=3),
    head=dict(
        type="MoCoV3Head",
        predictor=dict(_neck, num_layers=2),
        temperature=0.2,
        # Twice the temperature.
        loss=dict(type="CrossEntropyLoss", loss_weight=0.4),
    ),
)
