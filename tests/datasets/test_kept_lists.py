"""Lists of large folders are kept, hold as long as nothing changed, and never otherwise."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from msn_mm.datasets import ImageFolder, folder_listing, kept_lists
from msn_mm.datasets.image_list import ImageList
from msn_mm.errors import UserError

Change = Callable[[Path], object]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose list is kept, though it is small, and whose times are past."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_lists, "_LEAST_IMAGES", 1)
    root = tmp_path / "images"
    for name in ("a/1.jpg", "a/2.png", "a/deep/x/3.jpg", "b/4.jpg", "c\udcff/\udcfe.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "a" / "notes.txt").touch()
    settle(root)
    return root


def settle(root: Path) -> None:
    """Let the folders have been changed a minute ago."""
    past = time.time() - 60
    for folder, _, _ in os.walk(root):
        os.utime(folder, (past, past))


def paths(root: Path) -> list[str]:
    data = ImageFolder(root)
    return [data.get_data_info(i)["img_path"] for i in range(len(data))]


def fresh(root: Path) -> list[str]:
    return list(folder_listing.images_under(str(root)))


def kept(root: Path) -> list[Path]:
    return sorted((root.parent / "cache/msn_mm/file_lists").glob("*.npz"))


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be listed from now on."""

    def fail(*_: object) -> None:
        raise AssertionError("the folder was listed")

    monkeypatch.setattr(kept_lists, "images_under", fail)


def test_a_second_start_lists_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = paths(root)
    assert first == fresh(root) and len(first) == 5 and len(kept(root)) == 1
    unread(monkeypatch)
    assert paths(root) == first
    data = ImageFolder(root, labels="folder")
    assert data.metainfo["classes"] == ("a", "b", "c\udcff")
    assert [data.get_data_info(i)["gt_label"] for i in range(5)] == [0, 0, 0, 1, 2]
    # However it is written, it is the same folder; its paths begin as it is written.
    monkeypatch.chdir(root)
    assert paths(Path("../images")) == [f"../images{path[len(str(root)) :]}" for path in first]


CHANGES: dict[str, Change] = {
    "added": lambda root: (root / "b" / "5.jpg").touch(),
    "added deep": lambda root: (root / "a/deep/x/5.jpg").touch(),
    "removed": lambda root: (root / "a" / "1.jpg").unlink(),
    "renamed": lambda root: (root / "a/deep/x/3.jpg").rename(root / "a/deep/x/4.jpg"),
    "replaced by name": lambda root: [
        (root / "a" / "1.jpg").rename(root / "a" / "0.jpg"),
        (root / "a" / "2.png").rename(root / "a" / "1.jpg"),
    ],
    "new folder": lambda root: [(root / "d").mkdir(), (root / "d" / "1.jpg").touch()],
    "empty folder filled": lambda root: (root / "empty" / "1.jpg").touch(),
    "folder removed": lambda root: [(root / "b" / "4.jpg").unlink(), (root / "b").rmdir()],
    "folder exchanged": lambda root: [
        (root / "b").rename(root.parent / "old"),
        (root / "other").rename(root / "b"),
    ],
    "behind a link": lambda root: (root.parent / "elsewhere" / "9.jpg").touch(),
    "link set to another folder": lambda root: [
        (root / "linked").unlink(),
        (root / "linked").symlink_to(root / "a"),
    ],
    "a link's folder comes": lambda root: [
        (root.parent / "later").mkdir(),
        (root.parent / "later" / "1.jpg").touch(),
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_anywhere_is_seen(root: Path, change: str) -> None:
    (root.parent / "elsewhere").mkdir()
    (root.parent / "elsewhere" / "8.jpg").touch()
    (root / "linked").symlink_to(root.parent / "elsewhere")
    (root / "soon").symlink_to(root.parent / "later")
    for name in ("empty", "other"):
        (root / name).mkdir()
    settle(root.parent)
    before = paths(root)
    assert kept(root) and before == fresh(root)
    CHANGES[change](root)
    assert paths(root) == fresh(root) != before or change == "replaced by name"
    settle(root.parent)
    assert paths(root) == fresh(root) == paths(root)


def test_times_that_were_set_back_do_not_hide_a_change(root: Path) -> None:
    paths(root)
    was = os.stat(root / "b")
    (root / "b" / "5.jpg").touch()
    os.utime(root / "b", ns=(was.st_atime_ns, was.st_mtime_ns))
    assert paths(root) == fresh(root)


def test_a_folder_that_changed_just_now_is_not_kept(root: Path) -> None:
    (root / "b" / "5.jpg").touch()
    assert paths(root) == fresh(root) and not kept(root)


def test_what_may_not_be_trusted_is_not_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(root / "b", (0, 0))  # an object store's folder
    assert len(paths(root)) == 5 and not kept(root)
    settle(root)
    monkeypatch.setattr(kept_lists, "_in_user_space", lambda devices: True)
    assert len(paths(root)) == 5 and not kept(root)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / "cache"))
    assert len(paths(root)) == 5 and not kept(root), "a small folder"
    monkeypatch.setattr(kept_lists, "_LEAST_IMAGES", 1)
    monkeypatch.setenv("MSN_MM_KEEP_LISTS", "0")
    assert len(paths(root)) == 5 and not kept(root)


def test_a_mount_in_user_space_is_told(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "29 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "91 29 0:45 / /mnt/bucket rw,nosuid - fuse.gcsfuse bucket rw,user_id=0\n"
        "92 29 0:46 / /mnt/nfs rw shared:7 master:2 - nfs4 server:/ rw\n"
    )
    told = [
        kept_lists._in_user_space({os.makedev(*device)}, str(mounts))
        for device in ((254, 0), (0, 45), (0, 46), (0, 47))
    ]
    assert told == [False, True, False, False]
    assert not kept_lists._in_user_space({1}, str(tmp_path / "none"))


def test_spawned_workers_get_no_copy(root: Path) -> None:
    images = ImageList.packed("/data/", (b"class/%07d.jpg" % i for i in range(50_000)))
    assert len(images.below) == 50_000 * 17 and len(pickle.dumps(images)) > 850_000
    assert len(ForkingPickler.dumps(images)) < 10_000
    # What is shared has moved, and is read where it is now.
    assert images[49_999] == {"img_path": "/data/class/0049999.jpg"}


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "bit"])
def test_a_damaged_list_is_told_and_made_anew(
    root: Path, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    want = paths(root)
    (file,) = kept(root)
    whole = file.read_bytes()
    content = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "other": b"no list at all",
        # a letter of a path
        "bit": whole.replace(b"notes", b"n").replace(b"4.jpg", b"5.jpg"),
    }[damage]
    assert content != whole
    file.write_bytes(content)
    assert paths(root) == want
    told = capfd.readouterr().err
    assert told.count("\n") == 1 and "is damaged" in told and str(file) in told
    assert paths(root) == want and not capfd.readouterr().err


def test_another_version_s_list_is_no_list(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(paths(root)) == 5
    for module in (folder_listing, kept_lists):
        monkeypatch.setattr(module, "EXTENSIONS", (".jpg",))
    assert len(paths(root)) == 4


def test_a_home_that_cannot_be_written_is_done_without(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (root.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / "file"))
    assert paths(root) == fresh(root) == paths(root)
    assert not capfd.readouterr().err
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(root.parent / "home"))
    assert kept_lists.folder_of_lists() == root.parent / "home/.cache/msn_mm/file_lists"
    assert paths(root) == fresh(root) and list(root.parent.glob("home/.cache/msn_mm/*/*.npz"))


def test_several_processes_at_once(root: Path) -> None:
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(paths(root))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [fresh(root)] * 8 and len(kept(root)) == 1
    assert not [p for p in kept(root)[0].parent.iterdir() if p.suffix != ".npz"]


def test_the_oldest_lists_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_lists, "_MOST_LISTS", 2)
    paths(root / "a")
    (old,) = kept(root)
    for name in ("b", "c\udcff"):
        paths(root / name)
    assert len(kept(root)) == 2 and old not in kept(root)


def test_the_list_travels_and_is_cut(root: Path) -> None:
    whole = paths(root)
    data = ImageFolder(root, labels="folder", indices=[4, 0, -1, 1])
    assert [data.get_data_info(i)["img_path"] for i in range(4)] == [whole[i] for i in (4, 0, 4, 1)]
    last = ImageFolder(root, labels="folder", indices=-2)
    assert [last.get_data_info(i)["gt_label"] for i in (0, 1)] == [1, 2]
    assert last.get_data_info(-1) == {"img_path": whole[4], "gt_label": 2, "sample_idx": 1}
    images = pickle.loads(pickle.dumps(ImageFolder(root, serialize_data=True).data_list))
    assert [info["img_path"] for info in images] == whole
    assert [info["img_path"] for info in images[1:3]] == whole[1:3]
    assert [info["img_path"] for info in images.chosen(np.array([3, 0]))] == [whole[3], whole[0]]
    with pytest.raises(IndexError):
        images[5]


def test_errors_stay_with_a_kept_list(root: Path) -> None:
    paths(root)
    (root / "stray.jpg").touch()
    with pytest.raises(UserError, match=r"image .*/images/stray\.jpg lies in no class folder"):
        ImageFolder(root, labels="folder")
    (root / "stray.jpg").unlink()
    (root / "none").mkdir()
    settle(root)
    for _ in range(2):
        with pytest.raises(UserError, match=r"class folder .*none holds no image"):
            ImageFolder(root, labels="folder")
