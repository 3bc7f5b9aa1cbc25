"""SimCLR ResNet-101, 1,000 epochs.

    python tools/lowshot.py CONFIG CHECKPOINT --row configs/eval/backbones/simclr_rn101.py none

Published, not measured here: 33.5, 42.7 and 52.0 % with 1, 2 and 5 labels a class.
The authors publish a TensorFlow checkpoint (google-research/simclr, README.md, at
dec99a81a4ceccb0a5a893afecbc2ee18f1d76c3), which is not read here. The address is VISSL's own
training in PyTorch (71.56 % linear), so this row is close to the published one, not the same.
Address: facebookresearch/vissl, MODEL_ZOO.md, at 66a1f1997d2135f90a429ec3a37a4a503869f2a9.
Licence: MIT (VISSL's code; the model zoo states none of its own).
"""

model = dict(type="PlainResNet", layers=(3, 4, 23, 3))
checkpoint = dict(
    source="https://dl.fbaipublicfiles.com/vissl/model_zoo/simclr_rn101_1000ep_simclr_8node_resnet_16_07_20.35063cea/model_final_checkpoint_phase999.torch",
    license="MIT",
)
