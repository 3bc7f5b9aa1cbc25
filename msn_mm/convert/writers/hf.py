"""A directory that transformers loads: ``ViTMSNModel.from_pretrained(directory)``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from msn_mm.convert.architecture import ViTArchitecture
from msn_mm.convert.files import new_directory, save_tensors
from msn_mm.convert.format import Converted
from msn_mm.convert.formats.hf_msn import MODEL_TYPE, SETTINGS_KEY
from msn_mm.convert.hf_names import LAYERS, QKV, STEMS
from msn_mm.convert.source import MSN_HEAD, MSN_TRAINING
from msn_mm.convert.writer import WRITERS, Writer, Written, plain_vit, resampling_note

_STEMS = {ours: theirs for theirs, ours in STEMS.items()}
_LAYERS = {ours: theirs for theirs, ours in LAYERS.items()}
_BILINEAR = 2


@WRITERS.register_module()
class HuggingFaceWriter(Writer):
    """Weights by the published names, which transformers 4 and 5 both load.

    With a classifier it is a ``ViTMSNForImageClassification``. MSN's own head,
    which transformers has no class for, lies in a file beside; online network
    and optimizer, several times as large as all else, in another.
    """

    name = "hf"
    suffix = ""

    def write(self, converted: Converted, destination: Path) -> Written:
        """Write weights, config, preprocessor config and model card."""
        architecture = plain_vit(converted, self.name)
        # Its classifier is a linear layer on the CLS token, no other.
        has_place = converted.pooling == "cls" and set(converted.classifier) == {"weight", "bias"}
        left_out = [] if has_place else [f"classifier.{k}" for k in converted.classifier]
        if not has_place:
            converted = replace(converted, classifier={})
        kind = "ViTMSNForImageClassification" if converted.classifier else "ViTMSNModel"
        prefix = "vit." if converted.classifier else ""
        weights = {
            prefix + name: part
            for key, value in converted.trunk.items()
            for name, part in _theirs(key.removeprefix("vit."), value)
        }
        weights |= {f"classifier.{k}": v for k, v in converted.classifier.items()}
        files = {
            "config.json": _as_json(_config(converted, architecture, kind)),
            "preprocessor_config.json": _as_json(_preprocessor(converted, architecture)),
            "README.md": _card(converted, architecture, kind),
        }
        beside = _beside(converted.extras)
        told = {SETTINGS_KEY: json.dumps(converted.settings)}
        notes = resampling_note(architecture)
        if MSN_TRAINING in beside:
            size = sum(value.nbytes for value in beside[MSN_TRAINING].values())
            notes.append(
                f"{MSN_TRAINING} ({size / 1e6:,.1f} MB) holds online network and optimizer, which "
                "only a training that goes on needs; delete it before you publish the directory"
            )
        with new_directory(destination) as folder:
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8")
            for file, tensors in beside.items():
                save_tensors(tensors, folder / file, told if file == MSN_TRAINING else None)
            save_tensors(weights, folder / "model.safetensors")
        return Written(
            destination,
            f"transformers.{kind}.from_pretrained({str(destination)!r})",
            left_out,
            notes,
        )


def _beside(extras: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return what has no place in ``model.safetensors``, by the file that it goes to."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in extras.items():
        file = MSN_TRAINING if name.startswith(("online.", "optimizer.")) else MSN_HEAD
        found.setdefault(file, {})[name] = value
    return found


def _theirs(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of transformers for one of the trunk's."""
    if name in _STEMS:
        yield _STEMS[name], value
        return
    _, block, rest = name.split(".", 2)
    layer, _, kind = rest.rpartition(".")
    if layer == "attn.qkv":
        for part, piece in zip(QKV, value.chunk(3), strict=True):
            yield f"encoder.layer.{block}.attention.attention.{part}.{kind}", piece
    else:
        yield f"encoder.layer.{block}.{_LAYERS[layer]}.{kind}", value


def _config(converted: Converted, architecture: ViTArchitecture, kind: str) -> dict[str, Any]:
    hidden = converted.trunk["vit.blocks.0.mlp.fc1.weight"].shape[0]
    config: dict[str, Any] = {
        "architectures": [kind],
        "model_type": MODEL_TYPE,
        "hidden_size": architecture.width,
        "num_hidden_layers": architecture.depth,
        "num_attention_heads": architecture.heads,
        "intermediate_size": hidden,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-6,
        "image_size": architecture.image_size,
        "patch_size": architecture.patch,
        "num_channels": architecture.channels,
        "qkv_bias": True,
        "torch_dtype": str(converted.trunk["vit.cls_token"].dtype).removeprefix("torch."),
    }
    if converted.classifier:
        count = converted.classifier["weight"].shape[0]
        config["id2label"] = {str(i): f"LABEL_{i}" for i in range(count)}
        config["label2id"] = {f"LABEL_{i}": i for i in range(count)}
    return config


def _preprocessor(converted: Converted, architecture: ViTArchitecture) -> dict[str, Any]:
    size = {"height": architecture.image_size, "width": architecture.image_size}
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": size,
        "resample": _BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(converted.mean),
        "image_std": list(converted.std),
    }


def _card(converted: Converted, architecture: ViTArchitecture, kind: str) -> str:
    beside = _beside(converted.extras)
    head = ""
    if MSN_HEAD in beside:
        head += f"\nMSN's projector and prototypes lie beside it in `{MSN_HEAD}`.\n"
    if MSN_TRAINING in beside:
        head += (
            f"\nThe online network and the state of its optimizer lie in `{MSN_TRAINING}`. Only a "
            "training that\ngoes on needs them: delete that file, and this paragraph, before you "
            "publish.\n"
        )
    return f"""---
library_name: transformers
pipeline_tag: {"image-classification" if converted.classifier else "image-feature-extraction"}
tags:
- msn
- self-supervised-learning
---
# {architecture.describe()}

Weights converted by msn_mm from a checkpoint of the format `{converted.format}`. The licence is
that of the original weights: add it to the head of this file before you share them.

```python
from transformers import ViTImageProcessor, {kind}

processor = ViTImageProcessor.from_pretrained("PATH")
model = {kind}.from_pretrained("PATH")
outputs = model(**processor(image, return_tensors="pt"))
```

Masked Siamese Networks represent an image by the CLS token: `outputs.last_hidden_state[:, 0]` of
`ViTMSNModel`. The low-shot evaluations of the paper read it before the final norm.
{head}
Paper: Masked Siamese Networks for Label-Efficient Learning, https://arxiv.org/abs/2204.07141
"""


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
