"""BYOL ResNet-200, twice as wide.

    python tools/lowshot.py CONFIG CHECKPOINT --row configs/eval/backbones/byol_rn200w2.py none

Published, not measured here: 40.7, 52.7 and 62.9 % with 1, 2 and 5 labels a class.
The authors publish a JAX pickle (google-deepmind/deepmind-research, byol/README.md, at
2314aa74d53e1d75d1507a1496fede4a284bbb5b), which could run code and is not read here. The address
is VISSL's conversion of it; https://github.com/ajtejankar/byol-convert writes the same names.
Borders are JAX's, which leave no trace in the weights.
Address: facebookresearch/vissl, MODEL_ZOO.md, at 66a1f1997d2135f90a429ec3a37a4a503869f2a9.
Licence: Apache-2.0 (deepmind-research).
"""

model = dict(
    type="PlainResNet",
    layers=(3, 24, 36, 3),
    base_channels=128,
    padding="same",
)
checkpoint = dict(
    source="https://dl.fbaipublicfiles.com/vissl/model_zoo/baselines/converted_byol_pretrain_res200w2.torch",
    arch=dict(padding="same"),
    license="Apache-2.0",
)
