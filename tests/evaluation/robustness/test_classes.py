"""Classes of ImageNet-A and -R on real WordNet ids, and which output stands for which class."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import timm
from mmpretrain.datasets import categories
from timm.data import ImageNetInfo

from msn_mm.errors import UserError
from msn_mm.evaluation.robustness.class_mapping import (
    check_imagenet,
    check_wnids,
    outputs_of,
    subset_outputs,
    told_by,
)
from msn_mm.evaluation.robustness.imagenet_classes import (
    SUBSETS,
    imagenet_wnids,
    subset_wnids,
    wnid_outputs,
)

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = Path(os.environ.get("MSN_MM_SHARED", ROOT.parent / "shared")) / "data" / "imagenet_sample"
TIMM = Path(timm.__file__).parent / "data" / "_info"


def test_outputs_are_the_ascending_wnids() -> None:
    wnids = imagenet_wnids()
    assert len(wnids) == 1000 and list(wnids) == sorted(set(wnids))
    # as every published classifier has them
    assert wnids[0] == "n01440764" and wnids[999] == "n15075141"
    assert wnid_outputs()["n01498041"] == 6 and wnid_outputs()["n02110185"] == 250


# WordNet id, its English word, in A, in R
KNOWN = [
    ("n01498041", "stingray", True, True),
    ("n01531178", "goldfinch", True, True),
    ("n01443537", "goldfish", False, True),
    ("n01514859", "hen", False, True),
    ("n01616318", "vulture", True, True),
    ("n02110185", "husky", False, True),
    ("n03888257", "parachute", True, True),
    ("n01910747", "jellyfish", True, True),
    ("n02165456", "ladybug", True, True),
    ("n07768694", "pomegranate", True, True),
    ("n02486410", "baboon", True, True),
    ("n03026506", "Christmas stocking", True, False),
    ("n12144580", "corn", True, False),
    ("n01440764", "tench", False, False),
    ("n02108089", "boxer", False, True),
]


@pytest.mark.parametrize(("wnid", "word", "in_a", "in_r"), KNOWN, ids=[w for _, w, *_ in KNOWN])
def test_a_and_r_on_real_wnids(wnid: str, word: str, in_a: bool, in_r: bool) -> None:
    described = ImageNetInfo("imagenet-1k").label_name_to_description(wnid)
    assert word.lower() in described.lower()
    assert (wnid in subset_wnids("imagenet_a")) is in_a
    assert (wnid in subset_wnids("imagenet_r")) is in_r


@pytest.mark.parametrize("subset", SUBSETS)
def test_subsets_agree_with_timm_s_list_of_wnids(subset: str) -> None:
    if not (TIMM / f"{subset}_synsets.txt").is_file():
        pytest.skip("this timm keeps its lists elsewhere")
    wnids = subset_wnids(subset)
    assert len(set(wnids)) == 200 and list(wnids) == sorted(wnids)
    assert list(wnids) == (TIMM / f"{subset}_synsets.txt").read_text().split()
    # the k-th folder in ascending order stands for the k-th output of the subset
    assert subset_outputs(wnids, 1000, subset, "data").tolist() == list(SUBSETS[subset])


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the ImageNet sample is not here")
def test_folders_of_real_images_are_told_by_their_wnid() -> None:
    folders = sorted(path.name for path in SAMPLE.iterdir() if path.is_dir())
    assert len(folders) >= 100
    outputs = outputs_of(folders, 1000, "data")
    info = ImageNetInfo("imagenet-1k")
    for folder, output in zip(folders, outputs, strict=True):
        word = next((SAMPLE / folder).iterdir()).stem.partition("_")[2].replace("_", " ")
        assert info.index_to_label_name(int(output)) == folder
        assert word.split()[0].lower() in info.index_to_description(int(output)).lower(), folder
    in_a = set(folders) & set(subset_wnids("imagenet_a"))
    assert "n01614925" in in_a and "n02118333" not in in_a


def test_names_of_a_checkpoint_come_first_then_wnids_then_the_order() -> None:
    assert outputs_of(["cat", "dog"], 3, "data", ["dog", "eel", "cat"]).tolist() == [2, 0]
    assert outputs_of(["n15075141", "n01440764"], 1000, "data").tolist() == [999, 0]
    assert outputs_of(["a", "b"], 2, "data").tolist() == [0, 1]
    # a classifier of ImageNet by English names says nothing of folders by wnid
    for english in (categories.IMAGENET_CATEGORIES, categories.IMAGENET_SIMPLE_CATEGORIES):
        assert outputs_of(["n01443537"], 1000, "data", english).tolist() == [1]
        assert told_by(["n01443537"], 1000, english) == "wnid"
        assert outputs_of(english, 1000, "data", english).tolist() == list(range(1000))
    # one that tells its wnids in another order is believed
    turned = imagenet_wnids()[::-1]
    assert outputs_of(["n01440764", "n15075141"], 1000, "data", turned).tolist() == [999, 0]
    wnids = subset_wnids("imagenet_a")
    assert subset_outputs(wnids, 1000, "imagenet_a", "data", turned).tolist() == [
        999 - output for output in SUBSETS["imagenet_a"]
    ]
    # as many names, none of them known: their order
    assert outputs_of(["a", "b"], 2, "data", ["0", "1"]).tolist() == [0, 1]
    assert told_by(["a", "b"], 2, ["0", "1"]) == told_by(["a", "b"], 2) == "order"
    assert told_by(["1"], 2, ["0", "1"]) == "name"


def test_other_classes_are_one_line() -> None:
    def said(call, *args) -> str:
        with pytest.raises(UserError) as caught:
            call(*args)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "data has 3 classes and the classifier has 10 outputs" in said(
        outputs_of, ["a", "b", "c"], 10, "data"
    )
    assert "not trained on class 'fox'" in said(
        outputs_of, ["cat", "fox"], 2, "data", ["cat", "dog"]
    )
    others = [f"part {i}" for i in range(1000)]
    assert "WordNet ids and those of the classifier are not (part 0, part 1, part 2, ...)" in said(
        outputs_of, ["n01440764"], 1000, "data", others
    )
    assert "2 classes of the name 'crane'" in said(
        outputs_of, ["crane"], 1000, "data", categories.IMAGENET_CATEGORIES
    )
    assert "this one has 10 outputs" in said(check_imagenet, 10, "--imagenet-a")
    wnids = subset_wnids("imagenet_a")
    assert "lacks 1 of its 200 classes, such as n01498041" in said(
        check_wnids, wnids[1:], wnids, "A"
    )
    assert "has a folder 'n01440764' that is none of its 200" in said(
        subset_outputs, [*wnids, "n01440764"], 1000, "imagenet_a", "A"
    )
