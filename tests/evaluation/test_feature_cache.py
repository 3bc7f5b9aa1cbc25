from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msn_mm.datasets import EvalCrop, EvaluationImages, ImageFolder
from msn_mm.errors import UserError
from msn_mm.evaluation import extraction, feature_cache
from msn_mm.evaluation.encoder import ReadOut
from msn_mm.evaluation.extraction import Mask, extract
from msn_mm.evaluation.feature_cache import FeatureCache

from .photos import encoder, images_of, write_photos

N = 11


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(extraction, "_ROUND_S", 0.0)  # a shard a batch
    return Place(tmp_path)


class Place:
    """A folder of images, a cache, and what was read and said."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = write_photos(root / "photos", N)
        self.images = images_of(self.folder, log=root / "log")
        self.directory = root / "cache"

    def rows(self, indices: Any = None, **kwargs: Any) -> np.ndarray:
        how = {"batch_size": 4, "cache": FeatureCache(self.directory), **kwargs}
        rows = extract(how.pop("encoder", None) or encoder(), self.images, indices, **how)
        assert rows is not None
        return rows

    def read(self) -> int:
        return len(self.images.transform.read())

    def shards(self) -> list[Path]:
        return sorted(self.directory.glob("*/*.npz"))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """What was said on standard error so far, line by line."""
    lines: list[str] = []

    def look() -> list[str]:
        captured = capsys.readouterr()
        assert "code ran" not in captured.out
        lines.extend(captured.err.splitlines())
        return lines

    return look


def test_the_second_time_nothing_is_read(place: Place) -> None:
    cache = FeatureCache(place.directory)
    fresh = place.rows(cache=None)
    assert place.read() == N and not place.directory.exists()
    first = place.rows([3, 1], cache=cache)
    assert place.read() == 2 and (cache.hits, cache.misses) == (0, 2)
    second = place.rows(cache=cache)
    assert place.read() == N - 2 and (cache.hits, cache.misses) == (2, N)
    third = place.rows([9, 9, 0], cache=cache)
    assert place.read() == 0
    np.testing.assert_array_equal(second, fresh)
    np.testing.assert_array_equal(first, fresh[[3, 1]])
    np.testing.assert_array_equal(third, fresh[[9, 9, 0]])
    about = next(place.directory.glob("*/about.json")).read_text()
    assert '"resize": 40' in about and "MaskedViT" in about and '"mask": null' in about


def test_what_changes_a_feature_changes_its_place(place: Place) -> None:
    base = place.rows()
    place.read()
    variants: list[dict[str, Any]] = [
        {"encoder": encoder(seed=1)},
        {"encoder": encoder(readout=ReadOut(norm=True))},
        {"mask": Mask(0.5)},
        {"mask": Mask(0.5, seed=1)},
        {"mask": Mask(0.5, number=1)},
    ]
    for variant in variants:
        assert not np.array_equal(place.rows(**variant), base)
        assert place.read() == N, variant
        place.rows(**variant)
        assert place.read() == 0, variant
    place.images.transform.crop = 24
    assert place.rows().shape == base.shape and place.read() == N
    assert len(list(place.directory.iterdir())) == 2 + len(variants)


def test_a_changed_image_is_read_again_and_the_others_not(place: Place) -> None:
    before = place.rows()
    place.read()
    os.replace(place.folder / "05.jpg", place.folder / "04.jpg")
    write_photos(place.root / "more", 6)
    os.replace(place.root / "more" / "05.jpg", place.folder / "05.jpg")
    after = place.rows()
    assert place.images.transform.read() == ["04", "05"]
    np.testing.assert_array_equal(after[4], before[5])
    np.testing.assert_array_equal(after[[0, 10]], before[[0, 10]])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-500] ^= 1
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _narrow(path: Path) -> None:
    with np.load(path) as archive:
        ids, rows = archive["ids"], archive["features"]
    np.savez(path.with_suffix(""), ids=ids, features=rows[:, :5])


def _swap_rows(path: Path) -> None:
    with np.load(path) as archive:
        ids, rows = archive["ids"], archive["features"]
    np.savez(path.with_suffix(""), ids=ids[::-1], features=rows)


def _pickled(path: Path) -> None:
    harmful = np.array([_Harmful()], dtype=object)
    np.savez(path.with_suffix(""), ids=harmful, features=harmful)


class _Harmful:
    def __reduce__(self) -> tuple:
        return (print, ("code ran",))


@pytest.mark.parametrize("harm", [_cut, _flip, _empty, _narrow, _swap_rows, _pickled])
def test_a_damaged_shard_is_told_and_made_anew(place: Place, said: Any, harm: Any) -> None:
    fresh = place.rows()
    place.read()
    first, *others = place.shards()
    with np.load(first) as archive:
        inside = len(archive["ids"])
    assert others and 0 < inside < N
    harm(first)
    np.testing.assert_array_equal(place.rows(), fresh)
    assert place.read() == inside
    lines = [line for line in said() if "damaged or foreign" in line]
    assert len(lines) == 1 and str(first) in lines[0] and "\n" not in lines[0]
    np.testing.assert_array_equal(place.rows(), fresh)
    assert place.read() == 0 and len(said()) == 1  # and nothing of what a pickle would do


def test_a_shard_of_another_encoder_is_foreign(place: Place, said: Any) -> None:
    place.rows([0, 1], encoder=encoder(seed=1))
    (strange,) = place.shards()
    fresh = place.rows([2])
    (here,) = [path.parent for path in place.shards() if path != strange]
    os.replace(strange, here / strange.name)
    place.read()
    rows = place.rows([2, 0])
    assert place.images.transform.read() == ["00"] and "foreign" in said()[0]
    np.testing.assert_array_equal(rows[0], fresh[0])
    np.testing.assert_array_equal(rows[1], place.rows([0], cache=None)[0])


def test_a_run_that_ends_early_keeps_its_rounds(place: Place) -> None:
    good = (place.folder / "10.jpg").read_bytes()
    (place.folder / "10.jpg").write_text("no")
    with pytest.raises(UserError, match=r"10\.jpg"):
        place.rows(batch_size=2)
    assert place.read() == N and len(place.shards()) == 5
    (place.folder / "10.jpg").write_bytes(good)
    rows = place.rows()
    assert place.read() == 1
    np.testing.assert_array_equal(rows, place.rows(cache=None))


def test_small_shards_are_merged_and_leftovers_cleared(place: Place) -> None:
    fresh = place.rows(range(9), batch_size=1)
    (merged,) = place.shards()
    assert place.read() == 9
    shelf = merged.parent
    old, young = shelf / ".x.npz.old", shelf / ".y.npz.young"
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    os.utime(old, (0, 0))
    np.testing.assert_array_equal(place.rows(range(9)), fresh)
    assert place.read() == 0 and not old.exists() and young.exists()


def test_merging_stops_at_a_size(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "_SHARD_BYTES", 2000)  # three shards of one row
    fresh = place.rows(batch_size=1)
    assert 2 <= len(place.shards()) <= 6
    place.read()
    np.testing.assert_array_equal(place.rows(), fresh)
    assert place.read() == 0


def test_a_shard_that_another_run_merges_meanwhile(place: Place) -> None:
    """Between the listing and the reading its rows move to another shard."""
    fresh = place.rows(range(8), batch_size=2)
    shelf_path = place.shards()[0].parent
    assert len(place.shards()) == 4
    meanings: list[Any] = []

    class Watched(FeatureCache):
        def shelf(self, meaning: Any) -> Any:
            meanings.append(meaning)
            return super().shelf(meaning)

    place.rows(range(8), cache=Watched(place.directory))
    shelf = FeatureCache(place.directory).shelf(meanings[0])
    assert shelf is not None and shelf.directory == shelf_path
    place.read()
    ids = feature_cache.row_ids(place.images, np.arange(8), with_index=False)
    reading = shelf.read(ids)
    places, rows = next(reading)
    shelf._merge(place.shards())
    assert len(place.shards()) == 1
    found = {int(p): row for p, row in zip(places, rows, strict=True)}
    for places, rows in reading:
        found |= {int(p): row for p, row in zip(places, rows, strict=True)}
    assert sorted(found) == list(range(8))
    np.testing.assert_array_equal(np.stack([found[i] for i in range(8)]), fresh)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EMFILE, errno.EIO, errno.EACCES])
def test_a_shard_that_cannot_be_read_now_stays(
    place: Place, said: Any, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fresh = place.rows()
    first, load = place.shards()[0], np.load
    content = first.read_bytes()

    def failing(path: Path, **kwargs: Any) -> Any:
        if path == first:
            raise OSError(number, os.strerror(number), str(path))
        return load(path, **kwargs)

    monkeypatch.setattr(np, "load", failing)
    np.testing.assert_array_equal(place.rows(), fresh)
    (line,) = said()
    assert f"{first} cannot be read ({os.strerror(number)}); its images are encoded" in line
    # merging takes the others alone
    shelf = feature_cache.Shelf(place.directory, {})
    shelf.directory, shelf._digest = first.parent, lambda ids, rows: "whole"  # type: ignore[method-assign]
    monkeypatch.setattr(shelf, "_check", lambda *args: None)
    shelf._merge(place.shards())
    assert [path.stem for path in place.shards()] == sorted([first.stem, "whole"])
    assert first.read_bytes() == content


def test_shards_of_other_widths_are_merged_apart(tmp_path: Path) -> None:
    shelf = FeatureCache(tmp_path).shelf({})
    assert shelf is not None
    ids = np.arange(8 * 16, dtype=np.uint8).reshape(8, 16)
    for k in range(8):
        shelf.write(ids[k : k + 1], np.full((1, 2 + k % 2), k, np.float32))
    shelf.compact()
    assert len(list(shelf.directory.glob("*.npz"))) == 2
    # the next to read says which are foreign
    found = np.concatenate([places for places, _ in shelf.read(ids, 3)])
    assert sorted(found.tolist()) == [1, 3, 5, 7]


def test_a_directory_that_cannot_be_written_is_named(place: Place) -> None:
    place.directory.write_text("a file")
    with pytest.raises(UserError, match=rf"cannot write the feature cache {place.directory}"):
        place.rows()


def test_a_view_that_cannot_be_told_apart_is_not_cached(place: Place, said: Any) -> None:
    view = EvalCrop(40, 32)
    images = EvaluationImages(
        ImageFolder(place.folder, serialize_data=False), lambda info: view(info)
    )
    rows = extract(encoder(), images, cache=FeatureCache(place.directory))
    np.testing.assert_array_equal(rows, place.rows(cache=None))
    assert not place.directory.exists() and "no settings()" in said()[0]
