from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.backbones.plain_resnet import PlainResNet
from msn_mm.models.backbones.raw_pixels import RawPixels
from msn_mm.models.classifiers.trunk_classifier import TrunkClassifier
from msn_mm.models.heads.dino_head import DINOHead
from msn_mm.models.heads.msn_head import MSNHead
from msn_mm.models.losses.dino_loss import DINOLoss
from msn_mm.models.losses.msn_loss import MSNLoss
from msn_mm.models.methods.byol import BYOL
from msn_mm.models.methods.dino import DINO
from msn_mm.models.methods.linear_probe import LinearProbe
from msn_mm.models.methods.mae import MAE
from msn_mm.models.methods.msn import MSN
from msn_mm.models.methods.simclr import SimCLR
from msn_mm.models.ops.sync_batch_norm import SyncBatchNorm
from msn_mm.models.preprocessors.mixing import MixingPreprocessor
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor

__all__ = [
    "BYOL",
    "DINO",
    "MAE",
    "MSN",
    "DINOHead",
    "DINOLoss",
    "LinearProbe",
    "MSNHead",
    "MSNLoss",
    "MaskedViT",
    "MixingPreprocessor",
    "MultiViewPreprocessor",
    "PlainResNet",
    "RawPixels",
    "SimCLR",
    "SyncBatchNorm",
    "TrunkClassifier",
]
