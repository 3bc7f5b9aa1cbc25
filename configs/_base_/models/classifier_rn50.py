"""A ResNet-50 with a linear head on the mean over its last feature map."""

model = dict(
    type="TrunkClassifier",
    data_preprocessor=dict(
        type="MixingPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(type="PlainResNet", layers=(3, 4, 6, 3)),
    head=dict(type="LinearClsHead", num_classes=1000, loss=dict(type="CrossEntropyLoss")),
)
