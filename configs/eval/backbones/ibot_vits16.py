"""iBOT ViT-S/16 with block masks, the teacher's backbone.

    python tools/lowshot.py CONFIG CHECKPOINT --row configs/eval/backbones/ibot_vits16.py none

Published, not measured here: 40.4, 50.8 and 59.9 % with 1, 2 and 5 labels a class.
Address and licence: bytedance/ibot, README.md, at 2cd42846b0d93b76848b5897eeff0d38c5bfef6d.
The file is a plain ViT below state_dict (YannDubs/SSL-Risk-Decomposition, hub/ibot/ibot.py, at
4dc9419e96de0106ee80366ceef3222251fbb853), so how its positions are resampled has to be said.
Licence: Apache-2.0.
"""

model = dict(type="MaskedViT", name="vit_small_patch16_224", img_size=224, resampling="dino")
checkpoint = dict(
    source="https://lf3-nlp-opensource.bytetos.com/obj/nlp-opensource/archive/2022/ibot/vits_16/checkpoint_teacher.pth",
    arch=dict(resampling="dino"),
    license="Apache-2.0",
)
