from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.backbones.plain_resnet import PlainResNet
from msn_mm.models.backbones.raw_pixels import RawPixels
from msn_mm.models.classifiers.trunk_classifier import TrunkClassifier
from msn_mm.models.heads.msn_head import MSNHead
from msn_mm.models.losses.msn_loss import MSNLoss
from msn_mm.models.losses.pmsn_loss import PMSNLoss
from msn_mm.models.methods.linear_probe import LinearProbe
from msn_mm.models.methods.msn import MSN
from msn_mm.models.preprocessors.mixing import MixingPreprocessor
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor

__all__ = [
    "MSN",
    "LinearProbe",
    "MSNHead",
    "MSNLoss",
    "MaskedViT",
    "MixingPreprocessor",
    "MultiViewPreprocessor",
    "PMSNLoss",
    "PlainResNet",
    "RawPixels",
    "TrunkClassifier",
]
