"""iBOT on a ViT-S/16 (arXiv 2111.07832): one head for CLS and patches, masks, loss."""

model = dict(
    type="IBOT",
    data_preprocessor=dict(
        type="MultiViewPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(type="MaskedViT", name="vit_small_patch16_224", img_size=224, drop_path_rate=0.1),
    head=dict(
        type="DINOHead",
        output_dim=8192,
        hidden_dim=2048,
        bottleneck_dim=256,
        norm_last_layer=False,
    ),
    loss=dict(
        type="IBOTLoss",
        temperature=0.1,
        target_temperature=0.07,
        patch_target_temperature=0.07,
        centre_momentum=0.9,
        patch_centre_momentum=0.9,
        cls_weight=1.0,
        patch_weight=1.0,
    ),
    mask=dict(ratio=0.3, variation=0.2, probability=0.5),
    target_views=["global_1", "global_2"],
)
