"""Time the input pipeline against torchvision's transforms as the released recipe applies them.

    python benchmarks/input_pipeline.py [--images DIR] [--count 64] [--turns 7] [--json FILE]

Processor time an image on one thread, 2 views of 224 and 10 of 96 pixels, of:

- ``released``: Pillow decodes, then for each view torchvision's RandomResizedCrop,
  flip, ColorJitter (p 0.8), grey (p 0.2), Pillow's Gaussian blur (p 0.5, radius 0.1 to
  2.0), ToTensor and Normalize, written here for the purpose, and torch's collation;
- ``lightly``: Pillow decodes, then lightly's MSNTransform and torch's collation; only
  where lightly is installed (``pip install lightly`` into an environment of its own);
- ``worker``: what a data worker does here: decode, cut, draw, collate;
- ``device half``: what is left to the model's device (colour, blur, normalisation), on
  the CPU. ``everything``: the two together, to compare with the released transforms;
- ``decode``: reading the file and nothing else, which no pipeline can undercut.

Then the released transforms and ours each in a data worker of torch's loader: the worker's
processor time with its share of the batch's way to the training process, float32 pixels for
the one, bytes for the other.

All sides take the same files in turn, so a change of the machine's speed touches
all; processor time leaves out what other programs took. Without ``--images`` the
files are crops of scikit-learn's two photographs, as JPEG of 500 x 375 pixels and
about 107 KB, the usual size in ImageNet.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from extraction import write_images
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import transforms as T

from msn_mm.datasets import SampleKey, multi_view_collate
from msn_mm.datasets.decode import read_image
from msn_mm.datasets.image_folder import EXTENSIONS
from msn_mm.engine.launch import load_config
from msn_mm.registry import MODELS, TRANSFORMS
from msn_mm.utils.host_memory import keep_freed_memory

# Makes the crops as large as ImageNet's files: about 107 KB.
_QUALITY = 98
# How often a loader is given the files: the more, the less its start and end weigh.
_PASSES = 3
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def released_view(size: int, scale: tuple[float, float]) -> Callable[[Image.Image], Tensor]:
    """Return one view's transforms, colour jitter at strength 0.5."""
    return T.Compose(
        [
            T.RandomResizedCrop(size, scale=scale),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            T.RandomGrayscale(0.2),
            _blur,
            T.ToTensor(),
            T.Normalize(_MEAN, _STD),
        ]
    )


def _blur(image: Image.Image) -> Image.Image:
    if random.random() >= 0.5:
        return image
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


def pil_image(path: Path) -> Image.Image:
    """Decode as torchvision's ImageFolder does."""
    with path.open("rb") as file:
        return Image.open(file).convert("RGB")


class _Samples(Dataset[Any]):
    def __init__(self, files: Sequence[Path], sample: Callable[[Path], Any]) -> None:
        self.files, self.sample = files, sample

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        return self.sample(self.files[index])


class _Clocked:
    """Collate, and tell how much processor time the worker has taken so far."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: list[Any]) -> tuple[Any, float]:
        return self.collate(samples), time.process_time()


class Sides:
    """The pipelines, each a function of the files.

    Args:
        files: Images of a turn.
        batch: Images that are collated, and go through the device's half, at a time.
    """

    def __init__(self, files: Sequence[Path], batch: int) -> None:
        self.files, self.batch = files, batch
        cfg = load_config("configs/msn_vits16.py")
        self.cut = TRANSFORMS.build(cfg.train_dataloader.dataset.transform)
        self.prepare = MODELS.build(cfg.model.data_preprocessor)
        self.large, self.small = released_view(224, (0.3, 1.0)), released_view(96, (0.05, 0.3))
        self.batches: list[dict[str, Any]] = []
        self.turn = 0
        self.index = {file: i for i, file in enumerate(files)}

    def decode(self) -> None:
        for file in self.files:
            read_image(file)

    def released(self) -> None:
        self._batches(self._released_sample, default_collate)

    def _released_sample(self, file: Path) -> list[Tensor]:
        image = pil_image(file)
        return [view(image) for view in (self.large,) * 2 + (self.small,) * 10]

    def lightly(self) -> None:
        from lightly.transforms import MSNTransform

        transform = MSNTransform()
        self._batches(lambda file: transform(pil_image(file)), default_collate)

    def worker(self) -> None:
        self.turn += 1
        self.batches = self._batches(self._worker_sample, multi_view_collate)

    def _worker_sample(self, file: Path) -> dict[str, Any]:
        key = SampleKey(self.index[file], 0, self.turn)
        views = self.cut({"img_path": file, "key": key})
        return {"inputs": views, "data_samples": {"index": int(key), "unreadable": []}}

    def in_loader(self, name: str) -> float:
        """Return seconds of a data worker's processor time an image, its first batch left out."""
        sample, collate = {
            "released": (self._released_sample, default_collate),
            "worker": (self._worker_sample, multi_view_collate),
        }[name]
        files = list(self.files) * max(_PASSES, -(-3 * self.batch // len(self.files)))
        loader: DataLoader[Any] = DataLoader(
            _Samples(files, sample),
            batch_size=self.batch,
            num_workers=1,
            collate_fn=_Clocked(collate),
            drop_last=True,
        )
        clocks = [seconds for _, seconds in loader]
        return (clocks[-1] - clocks[0]) / (len(clocks) - 1) / self.batch

    def _batches(
        self, sample: Callable[[Path], Any], collate: Callable[[list[Any]], Any]
    ) -> list[Any]:
        return [
            collate([sample(file) for file in self.files[at : at + self.batch]])
            for at in range(0, len(self.files), self.batch)
        ]

    def device_half(self) -> None:
        for batch in self.batches:
            self.prepare(batch, training=True)


def find_images(folder: Path, count: int) -> list[Path]:
    """Return the first image files of a folder, evenly taken from all of them."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not found:
        raise SystemExit(f"no images in {folder}")
    return found[:: max(1, len(found) // count)][:count]


def measure(
    sides: Sides, names: Sequence[str], turns: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return milliseconds of processor time an image of each turn, and those in a loader."""
    spent: dict[str, list[float]] = {name: [] for name in names}
    in_loader: dict[str, list[float]] = {"released": [], "worker": []}
    for turn in range(turns + 1):  # the first warms up
        for name in names:
            begun = time.process_time()
            getattr(sides, name)()
            if turn:
                spent[name].append((time.process_time() - begun) / len(sides.files) * 1e3)
        if turn:
            for name, found in in_loader.items():
                found.append(1e3 * sides.in_loader(name))
    return spent, in_loader


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of images instead of the crops")
    parser.add_argument("--count", type=int, default=64, help="images of one turn")
    parser.add_argument("--batch", type=int, default=16, help="images of one batch")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    keep_freed_memory()  # as a training does on a CPU; of use to both sides
    names = ["decode", "released", "worker", "device_half"]
    if importlib.util.find_spec("lightly"):
        names.insert(2, "lightly")
    with tempfile.TemporaryDirectory() as scratch:
        if args.images is None:
            write_images(Path(scratch), args.count, quality=_QUALITY)
        files = find_images(args.images or Path(scratch), args.count)
        size = statistics.mean(file.stat().st_size for file in files)
        load = os.getloadavg()[0]
        spent, in_loader = measure(Sides(files, args.batch), names, args.turns)
    spent["everything"] = [
        a + b for a, b in zip(spent["worker"], spent["device_half"], strict=True)
    ]
    ratios = _ratios(spent)
    print(
        f"{len(files)} images of {size / 1e3:.0f} KB on average, batches of {args.batch}, "
        f"{args.turns} turns, one thread, load {load:.1f} before; torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}, Pillow {Image.__version__}"
    )
    print("side          ms an image (range)     times released (range)")
    for name, found in spent.items():
        print(
            f"{name.replace('_', ' '):12}  {_spread(found):22}  "
            f"{'' if name == 'device_half' else _spread(ratios[name])}".rstrip()
        )
    print(
        "in a data worker of torch's loader, its share of the way to the training process included:"
    )
    loader_ratios = _ratios(in_loader)
    for name, found in in_loader.items():
        print(f"{name:12}  {_spread(found):22}  {_spread(loader_ratios[name])}")
    if args.json:
        figures = {
            name: {
                "ms_an_image": statistics.median(spent[name]),
                "times_released": statistics.median(ratios[name]),
                "ms_an_image_turns": spent[name],
            }
            for name in spent
        }
        figures |= {
            f"{name}_in_loader": {
                "ms_an_image": statistics.median(found),
                "times_released": statistics.median(loader_ratios[name]),
                "ms_an_image_turns": found,
            }
            for name, found in in_loader.items()
        }
        args.json.write_text(json.dumps({"images": len(files), "figures": figures}, indent=2))


def _ratios(spent: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return how many times the released rate each side reached, turn by turn."""
    return {
        name: [a / b for a, b in zip(spent["released"], found, strict=True)]
        for name, found in spent.items()
    }


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
