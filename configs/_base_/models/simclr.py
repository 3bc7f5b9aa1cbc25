"""SimCLR on a ResNet-50: projector of two layers, batch norm behind both (arXiv 2002.05709)."""

model = dict(
    type="SimCLR",
    data_preprocessor=dict(
        type="MultiViewPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    # The authors' code lets every block start as its shortcut.
    backbone=dict(type="PlainResNet", layers=(3, 4, 6, 3), zero_init_residual=True),
    neck=dict(
        type="NonLinearNeck",
        hid_channels=2048,
        out_channels=128,
        num_layers=2,
        with_avg_pool=False,
        norm_cfg=dict(type="SyncBatchNorm"),
    ),
    head=dict(type="ContrastiveHead", loss=dict(type="CrossEntropyLoss"), temperature=0.1),
)
