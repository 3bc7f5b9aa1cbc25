"""MAE on a ViT-B/16 with the published decoder and target (arXiv 2111.06377, section 3)."""

model = dict(
    type="MAE",
    data_preprocessor=dict(
        type="MultiViewPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(type="MaskedViT", name="vit_base_patch16_224", img_size=224),
    decoder=dict(
        type="MAEPretrainDecoder", decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16
    ),
    # Each patch's pixels less their mean, by their standard deviation.
    head=dict(
        type="MAEPretrainHead",
        norm_pix=True,
        loss=dict(type="PixelReconstructionLoss", criterion="L2"),
    ),
    mask_ratio=0.75,
)
