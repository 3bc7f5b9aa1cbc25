"""A ViT-B/16 with a linear head on its CLS token; drop path, mixing and smoothing of C.4."""

model = dict(
    type="TrunkClassifier",
    data_preprocessor=dict(
        type="MixingPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        # One of the two a pair of images, each as likely.
        batch_augments=dict(
            augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]
        ),
    ),
    backbone=dict(type="MaskedViT", name="vit_base_patch16_224", img_size=224, drop_path_rate=0.2),
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
)
