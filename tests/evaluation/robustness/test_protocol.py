"""Accuracy of networks whose answers are known: subsets, mappings, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.errors import UserError
from msn_mm.evaluation.robustness import comparison, measuring
from msn_mm.evaluation.robustness.classifier import Answers, Classifier, frozen_classifier
from msn_mm.evaluation.robustness.comparison import Sources, compare
from msn_mm.evaluation.robustness.corruption_error import (
    ALEXNET_ERRORS,
    CORRUPTIONS,
    SEVERITIES,
)
from msn_mm.evaluation.robustness.finished_passes import FinishedPasses
from msn_mm.evaluation.robustness.imagenet_classes import SUBSETS, imagenet_wnids, subset_wnids
from msn_mm.evaluation.robustness.measuring import Measuring
from msn_mm.evaluation.robustness.normalising import by_alexnet
from msn_mm.evaluation.robustness.protocol import Robustness
from msn_mm.evaluation.rows import Row
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor

from .stand_ins import LENET, PixelClassifier, spell, train_lenet

CPU = torch.device("cpu")
SMALL = Config({"model": {"type": "MaskedViT", "img_size": 8}})


def robustness(
    outputs: int,
    finished: FinishedPasses | None = None,
    classes: tuple[str, ...] | None = None,
) -> Robustness:
    plain = MultiViewPreprocessor([0.0] * 3, [1.0] * 3)
    classifier = Classifier(PixelClassifier(outputs), plain, False, CPU, False, classes)
    return Robustness("pixels", SMALL, classifier, Measuring(16, 0, finished))


def folder(root: Path, answers: dict[str, list[int]]) -> Path:
    """One folder a class; each image spells the number that the classifier will answer."""
    for name, numbers in answers.items():
        (root / name).mkdir(parents=True)
        for i, number in enumerate(numbers):
            Image.new("RGB", (8, 8), spell(number)).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_subset_is_asked_among_its_own_200_classes(subset: str, tmp_path: Path) -> None:
    own = SUBSETS[subset]
    outside = sorted(set(range(1000)) - set(own))
    answers = {wnid: [output] for wnid, output in zip(subset_wnids(subset), own, strict=True)}
    assert robustness(1000).folder(subset, folder(tmp_path / "right", answers)) == {
        "top1": 100.0,
        "images": 200,
        "classes": 200,
    }
    # The network's favourite is outside of the subset and the nearest class inside is the
    # right one: right among 200 classes, wrong among 1,000.
    near = {}
    for wnid, output in zip(subset_wnids(subset), own, strict=True):
        favourites = [
            o for o in outside if all(abs(o - output) < abs(o - x) for x in own if x != output)
        ]
        near[wnid] = [favourites[0] if favourites else output]
    assert sum(near[wnid] != answers[wnid] for wnid in near) > 80
    measured = robustness(1000).folder(subset, folder(tmp_path / "near", near))
    assert measured["top1"] == 100.0
    # and the next class of the subset is wrong
    wrong = {w: [own[(k + 1) % 200]] for k, w in enumerate(subset_wnids(subset))}
    for k, wnid in enumerate(wrong):
        if k % 4 == 0:
            wrong[wnid] = [own[k]]
    measured = robustness(1000).folder(subset, folder(tmp_path / "wrong", wrong))
    assert measured["top1"] == 25.0


def test_sketch_is_asked_among_all(tmp_path: Path) -> None:
    answers = {wnid: [k if k % 5 else (k + 1) % 1000] for k, wnid in enumerate(imagenet_wnids())}
    measured = robustness(1000).folder("imagenet_sketch", folder(tmp_path / "s", answers))
    assert measured == {"top1": 80.0, "images": 1000, "classes": 1000}


def test_a_classifier_that_tells_its_classes_in_another_order(
    imagenet_c: Path, tmp_path: Path
) -> None:
    wnids = imagenet_wnids()
    turned = wnids[::-1]
    others = tuple(f"part {i}" for i in range(1000))
    for kind, own in (*((s, subset_wnids(s)) for s in SUBSETS), ("imagenet_sketch", wnids)):
        root = folder(tmp_path / kind, {wnid: [999 - wnids.index(wnid)] for wnid in own})
        assert robustness(1000, classes=turned).folder(kind, root)["top1"] == 100.0, kind
        with pytest.raises(UserError, match="WordNet ids and those of the classifier are not"):
            robustness(1000, classes=others).folder(kind, root)
    # those images spell the usual outputs, which here stand for other classes
    with pytest.raises(UserError, match=r"pixels: --imagenet-c .* of the classifier are not"):
        robustness(1000, classes=others).imagenet_c(imagenet_c)
    measured = robustness(1000, classes=turned).imagenet_c(imagenet_c)
    assert measured["mean_error"] == 100.0


def test_other_classes_are_one_line(tmp_path: Path) -> None:
    few = folder(tmp_path / "few", {"n01498041": [6], "n01531178": [11]})
    for kind, wanted in (("imagenet_a", 200), ("imagenet_r", 200), ("imagenet_sketch", 1000)):
        with pytest.raises(UserError, match=f"lacks {wanted - 2} of its {wanted} classes"):
            robustness(1000).folder(kind, few)
        with pytest.raises(UserError, match="this one has 10 outputs"):
            robustness(10).folder(kind, few)
    (few / "n01498041" / "0.png").unlink()
    with pytest.raises(UserError, match=r"class folder .*n01498041 holds no image"):
        robustness(1000).folder("imagenet_a", few)


def tree(root: Path) -> Path:
    """ImageNet-C of two classes; at severity s, s of ten images are wrong, in fog all."""
    for corruption in CORRUPTIONS:
        for severity in SEVERITIES:
            wrong = 10 if corruption == "fog" else severity
            names = ["n01440764", "n15075141"]
            answers = {
                name: [(k if i >= wrong else 5) for i in range(10)]
                for name, k in zip(names, (0, 999), strict=True)
            }
            folder(root / corruption / str(severity), answers)
    return root


@pytest.fixture(scope="module")
def imagenet_c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("c"))


def test_imagenet_c_against_the_formula(imagenet_c: Path, tmp_path: Path) -> None:
    finished = FinishedPasses(tmp_path / "passes.json")
    measured = by_alexnet(robustness(1000, finished).imagenet_c(imagenet_c))
    snow, fog = measured["corruptions"]["snow"], measured["corruptions"]["fog"]
    assert snow["errors"] == pytest.approx([10, 20, 30, 40, 50]) and snow["error"] == 30.0
    assert fog["errors"] == [100.0] * 5
    # E / E_AlexNet by hand
    assert fog["ce"] == pytest.approx(100 * 100 / 81.9324)
    ces = [100 * (100 if n == "fog" else 30) / a for n, a in ALEXNET_ERRORS.items()]
    assert measured["mce"] == pytest.approx(np.mean(ces))
    assert measured["mean_error"] == pytest.approx((14 * 30 + 100) / 15)
    assert (measured["is_whole"], measured["images"], measured["classes"]) == (False, 20, 2)
    assert measured["fewest_images"] == 20
    assert len(finished) == 75 and finished.found == 0


@pytest.mark.parametrize("rows", [1, 2])
def test_bad_data_are_told_before_the_first_pass(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {wnid: [0] for wnid in subset_wnids("imagenet_a")}
    good = folder(tmp_path / "a", answers)
    bad = folder(tmp_path / "r", answers)
    finished = FinishedPasses(tmp_path / "passes.json")
    classifier = robustness(1000).classifier
    monkeypatch.setattr(comparison, "frozen_classifier", lambda *_: classifier)
    roots = {"imagenet_a": str(good), "imagenet_r": str(bad)}
    sources = Sources(roots, None, None, None, CORRUPTIONS, SEVERITIES, 0)
    several = [Row(f"row{i}", "", SMALL, None) for i in range(rows)]
    with pytest.raises(UserError, match=r"row0: --imagenet-r .* lacks \d+ of its 200 classes"):
        compare(several, sources, Measuring(16, 0, finished))
    assert not len(finished)
    # pixels too few to be corrupted show in one image
    small = Sources({"imagenet_a": str(good)}, None, str(good), None, ["fog"], [1], 0)
    with pytest.raises(UserError, match="want images of 32 pixels"):
        compare(several, small, Measuring(16, 0, finished))
    assert not len(finished)


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_a_stopped_run_goes_on(
    imagenet_c: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = robustness(1000).imagenet_c(imagenet_c)
    passes = tmp_path / "passes.json"
    real, ran = measuring.extract, []

    def extract(*args, **kwargs):
        if len(ran) == stop_after:
            raise Stopped
        ran.append(kwargs["progress"])
        return real(*args, **kwargs)

    monkeypatch.setattr(measuring, "extract", extract)
    stop_after = 20
    with pytest.raises(Stopped):
        robustness(1000, FinishedPasses(passes)).imagenet_c(imagenet_c)
    assert len(FinishedPasses(passes)) == 20
    stop_after = 75
    found = FinishedPasses(passes)
    assert robustness(1000, found).imagenet_c(imagenet_c) == whole
    assert found.found == 20 and len(ran) == len(set(ran)) == 75
    # another classifier, another image: none of it is believed
    other = robustness(1000, FinishedPasses(passes))
    with torch.no_grad():
        other.classifier.module.offset += 1
    image = imagenet_c / "gaussian_noise/1/n01440764/0.png"
    before = image.read_bytes()
    with pytest.raises(Stopped):
        other.imagenet_c(imagenet_c)
    Image.new("RGB", (8, 8), spell(0)).save(image)
    try:
        changed = robustness(1000, FinishedPasses(passes))
        with pytest.raises(Stopped):
            changed.imagenet_c(imagenet_c)
        assert changed.measuring.finished is not None and changed.measuring.finished.found == 0
    finally:
        image.write_bytes(before)


def test_imagenet_c_of_other_classes(imagenet_c: Path) -> None:
    with pytest.raises(UserError, match=r"--imagenet-c is for classifiers .* this one has 10"):
        robustness(10).imagenet_c(imagenet_c)


def test_outputs_that_are_not_finite_are_one_line(tmp_path: Path) -> None:
    measured = robustness(1000)
    with torch.no_grad():
        measured.classifier.module.offset.fill_(float("nan"))
    answers = {wnid: [0] for wnid in subset_wnids("imagenet_a")}
    with pytest.raises(UserError, match="not finite for 200 of 200 images, the first n01498041/0"):
        measured.folder("imagenet_a", folder(tmp_path / "a", answers))


def test_answers_by_hand() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0], [9.0, 1.0, 2.0, 1.0], [0.0, torch.inf, 0.0, 0.0]])

    class Fixed(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return logits

    images = torch.zeros(3, 1, 1, 1)
    whole = Answers(Fixed())(images)[:, 0]
    assert whole[:2].tolist() == [1.0, 0.0] and whole[2].isnan()
    assert Answers(Fixed(), [2, 3])(images)[:2, 0].tolist() == [3.0, 2.0]


def test_a_classifier_of_a_config_is_its_own_forward(tmp_path: Path) -> None:
    config = tmp_path / "lenet.py"
    config.write_text(LENET)
    train_lenet(config, tmp_path / "lenet.pth", epochs=1)
    cfg = Config.fromfile(str(config))
    classifier = frozen_classifier(cfg, tmp_path / "lenet.pth", device="cpu")
    assert classifier.classes == tuple("0123456789")
    images = EvaluationImages(
        cfg.test_dataloader.dataset.query, cfg.test_dataloader.dataset.transform
    )
    assert classifier.count_outputs(images[0]) == 10
    stack = torch.stack([images[i] for i in range(40)])
    answers = classifier.answers()(stack)[:, 0]
    model = classifier.module.model
    with torch.no_grad():
        logits = model((stack.float() - 78.0) / 90.0, mode="tensor")
    assert torch.equal(answers, logits.argmax(dim=1).float())
    with pytest.raises(UserError, match="belongs to another model: it lacks"):
        torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
        frozen_classifier(cfg, tmp_path / "other.pth", device="cpu")
