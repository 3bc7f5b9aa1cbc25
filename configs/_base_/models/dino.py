"""DINO on a ViT-S/16 (arXiv 2104.14294): head, loss, stochastic depth of the trained network."""

model = dict(
    type="DINO",
    data_preprocessor=dict(
        type="MultiViewPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(type="MaskedViT", name="vit_small_patch16_224", img_size=224, drop_path_rate=0.1),
    head=dict(
        type="DINOHead",
        output_dim=65536,
        hidden_dim=2048,
        bottleneck_dim=256,
        norm_last_layer=True,
    ),
    loss=dict(type="DINOLoss", temperature=0.1, target_temperature=0.07, centre_momentum=0.9),
    target_views=["global_1", "global_2"],
)
