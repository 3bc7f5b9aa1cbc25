"""MSN on a ViT-S/16 with the appendix's head and loss (arXiv 2204.07141, C.1)."""

model = dict(
    type="MSN",
    data_preprocessor=dict(
        type="MultiViewPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(type="MaskedViT", name="vit_small_patch16_224", img_size=224),
    head=dict(type="MSNHead", hidden_dim=2048, output_dim=256, num_prototypes=1024),
    loss=dict(
        type="MSNLoss",
        anchor_temperature=0.1,
        target_temperature=0.025,
        me_max_weight=1.0,
        sinkhorn_iterations=3,
    ),
    mask_ratio=dict(anchor=0.15),
)
