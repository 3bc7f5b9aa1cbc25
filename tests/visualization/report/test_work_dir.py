"""What is read of a training's directory, whole, half written, or not one at all."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run, tiny_digits
from PIL import Image

from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.published_rows import published_rows
from msn_mm.evaluation.tables import heading
from msn_mm.models.heads.dino_head import DINOHead
from msn_mm.registry import MODELS
from msn_mm.visualization.page_parts import csv_of, html_table
from msn_mm.visualization.report import overview, prototypes, rcdm
from msn_mm.visualization.report.chart import thin
from msn_mm.visualization.report.evaluations import is_published_data, tables_of
from msn_mm.visualization.report.feature_map import place_points
from msn_mm.visualization.report.overview import facts, when
from msn_mm.visualization.report.prototypes import assign
from msn_mm.visualization.report.run import Options, Run
from msn_mm.visualization.report.starts import read_starts
from msn_mm.visualization.report.training_curves import num_prototypes_of
from msn_mm.visualization.report.work_dir import Results, WorkDir, names_of
from tests.visualization.report.trained import report


def test_a_resumed_training_is_one(trained: Path) -> None:
    work = WorkDir(trained, "digits")
    assert [(start.first, start.last) for start in work.starts] == [(2, 8), (10, 12)]
    assert [at for at, _ in work.history.train["loss"]] == pytest.approx(np.arange(2, 13, 2) / 4)
    assert work.checkpoint.name == "epoch_3.pth" and work.saved["meta"]["epoch"] == 3
    assert [one.tool for one in work.results] == ["knn"]
    assert (work.resumes, work.earlier_trainings) == (1, 0)
    assert facts(Run(work, Options()))["resumed"] == "once"
    assert num_prototypes_of(work.cfg) == 8


@pytest.fixture(scope="module")
def used_again(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the training above, in which another one was begun without --resume."""
    place = tmp_path_factory.mktemp("again") / "digits"
    shutil.copytree(trained, place)
    last = max(start.name for start in read_starts(place))
    while time.strftime("%Y%m%d_%H%M%S") <= last:  # a start is named by its second
        time.sleep(0.1)
    options = {"default_hooks.logger.interval": 2, "default_hooks.checkpoint.interval": 1}
    run(tiny_digits(**options, **{"train_cfg.max_epochs": 2}), place)
    return place


def test_starts_say_whether_they_resumed(used_again: Path) -> None:
    first, second, third = sorted(used_again.glob("*/start.json"))
    told = [json.loads(file.read_text())["resumed_from"] for file in (first, second, third)]
    assert told[0] is None and told[1].endswith("/epoch_2.pth") and told[2] is None
    assert [start.resumed for start in read_starts(used_again)] == [False, True, False]


@pytest.mark.parametrize("by", ["start.json", "the log"])
def test_a_training_begun_anew_in_a_used_directory_is_shown_alone(
    by: str, used_again: Path, tmp_path: Path
) -> None:
    place = tmp_path / "digits"
    shutil.copytree(used_again, place)
    if by == "the log":
        for file in place.glob("*/start.json"):
            file.unlink()
    work = WorkDir(place, "digits")
    assert [(start.first, start.last) for start in work.starts] == [(2, 8)]
    assert (work.resumes, work.earlier_trainings) == (0, 1)
    assert [at for at, _ in work.history.train["loss"]] == pytest.approx([0.5, 1, 1.5, 2])
    assert [at for at, _ in work.history.val["knn/top1"]] == [2]
    # epoch_3.pth and its evaluation are the earlier training's
    assert work.checkpoint.name == "epoch_2.pth" and work.results == []
    told = facts(Run(work, Options()))
    assert told["left out"] == "1 earlier training of this directory"
    assert told["started"] == when(work.starts[0].name) and told["resumed"] == "never"
    page = str(overview.section(Run(work, Options())).body)
    assert f"begun anew here at {told['started']}; left out: 1 earlier training of" in page
    # one more that ended before its first logged step leaves the page as it is
    (place / "29990101_000000" / "vis_data").mkdir(parents=True)
    assert WorkDir(place, "digits").earlier_trainings == 1
    # and until the new one has saved, the page has no checkpoint
    for name in ("epoch_1.pth", "epoch_2.pth"):
        (place / name).unlink()
    assert WorkDir(place, "digits").checkpoint_or_none is None


def test_half_a_directory_says_what_is_missing(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed in the first save: a torn checkpoint, a torn log line, no config."""
    place = tmp_path / "half"
    vis_data = place / "20260101_000000" / "vis_data"
    vis_data.mkdir(parents=True)
    line = json.dumps({"loss": 1.5, "epoch": 1, "iter": 2, "step": 2})
    (vis_data / "scalars.json").write_bytes(line.encode() + b"\n\xff{torn")
    (place / "epoch_1.pth").write_bytes((trained / "epoch_3.pth").read_bytes()[:5000])
    (place / "results.json").write_text('{"tool": "train", "metr')
    assert report(str(place)) == 0
    results = json.loads((place / "report" / "results.json").read_text())
    assert results["tool"] == "report" and results["checkpoint"] is None
    assert set(results["metrics"]["shown"]) == {"overview", "curves", "troubles"}
    missing = results["metrics"]["missing"]
    assert "holds no config" in missing["attention"]
    assert "tools/lowshot.py" in missing["evaluations"]
    printed = capsys.readouterr().out
    assert "not shown: map: " in printed and "report.html" in printed
    # and a page made again does not take itself for an evaluation
    assert WorkDir(place, "half").results == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda place: None, "does not exist"),
        (lambda place: place.write_text(""), "is a file"),
        (lambda place: place.mkdir(), "is empty; train first"),
        (lambda place: (place / "run" / "vis_data").mkdir(parents=True), "holds neither"),
    ],
)
def test_other_places_are_refused(make, said: str, tmp_path: Path) -> None:
    make(tmp_path / "place")
    with pytest.raises(UserError, match=said) as told:
        report(str(tmp_path / "place"))
    assert "\n" not in str(told.value)


def test_another_tools_directory_is_refused(trained: Path) -> None:
    with pytest.raises(UserError, match=r"holds results of tools/knn.py and no training"):
        report(str(trained / "knn"))
    with pytest.raises(UserError, match=r"do you mean .*digits\?"):
        report(str(trained.parent))


def test_trainings_are_told_apart() -> None:
    assert names_of(["a/x", "b/x/"]) == ["a/x", "b/x"] and names_of(["a/x", "a/y"]) == ["x", "y"]
    with pytest.raises(UserError, match="named twice"):
        names_of(["a/x", "a/../a/x"])


def test_published_numbers_stand_in_the_columns_of_ones_own() -> None:
    header = ["top-1 accuracy (%)", heading("2"), heading("1%")]
    rows = {row[0]: row[1:] for row in published_rows("lowshot", header).rows}
    assert rows["MSN ViT-L/7 200 epochs"] == ["66.4 ± 0.6", ""]
    assert rows["MSN ViT-S/16, 1 % of the labels"] == ["", "67.2"]
    assert published_rows("knn", header).rows == []


@pytest.mark.parametrize(("classes", "query", "same"), [(1000, 50_000, True), (10, 500, False)])
def test_published_numbers_are_compared_on_their_data_alone(classes, query, same) -> None:
    content = {"tool": "lowshot", "settings": {"classes": classes, "query_images": query}}
    assert is_published_data(Results(Path("results.json"), content)) is same


def test_results_of_another_version_are_shown_as_they_are() -> None:
    content = {"tool": "knn", "config": "x", "metrics": {"10": {"old_name": 51.25}, "note": "<b>"}}
    (table,) = tables_of(Results(Path("results.json"), content), "run")
    assert table.rows == [["10.old_name", "51.25"], ["note", "<b>"]]
    assert "&lt;b&gt;" in html_table(table, "knn") and "<b>" not in html_table(table, "knn")


def test_images_go_to_the_prototype_of_the_highest_score() -> None:
    rng = np.random.default_rng(0)
    projections, directions = rng.normal(size=(50, 6)), rng.normal(size=(7, 6))
    found = assign(projections, directions)
    expected = [max(range(7), key=lambda k: float(row @ directions[k])) for row in projections]
    assert found.best.tolist() == expected
    assert found.counts.sum() == 50 and found.counts.tolist() == [
        expected.count(k) for k in range(7)
    ]


def test_scores_are_the_target_networks_logits(trained: Path) -> None:
    run = Run(WorkDir(trained, "digits"), Options(max_images=9))
    model = run.model
    images = torch.stack([run.images[int(i)] for i in run.indices])
    inputs = model.data_preprocessor({"inputs": images, "data_samples": {}})["inputs"]
    with torch.no_grad():
        projected = model.target_head.projector(model.target_backbone(inputs))
        expected = torch.cosine_similarity(
            projected.unsqueeze(1), model.head.prototypes.unsqueeze(0), dim=2
        )
    scores = run.projections @ model.prototypes().detach().numpy().T
    assert np.allclose(scores, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("fixed", [True, False])
def test_dinos_scores_are_its_logits(fixed: bool) -> None:
    backbone = dict(type="MaskedViT", img_size=16, patch_size=8, embed_dim=24, depth=1, num_heads=3)
    head = dict(type="DINOHead", output_dim=12, hidden_dim=16, bottleneck_dim=8)
    head["norm_last_layer"] = fixed
    model = MODELS.build(
        dict(type="DINO", backbone=backbone, head=head, loss=dict(type="DINOLoss"))
    )
    assert isinstance(model.target_head, DINOHead)
    images = torch.randn(3, 3, 16, 16)
    logits = model.target_head(model.target_backbone(images))
    assert torch.allclose(model.project(images) @ model.prototypes().T, logits, atol=1e-6)


def test_the_map_by_components_keeps_distances() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(40, 2)) @ np.linalg.qr(rng.normal(size=(8, 8)))[0][:2]
    unit = plane / np.linalg.norm(plane, axis=1, keepdims=True)
    points = place_points(plane, "pca", 0)
    far = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert np.allclose(far, np.linalg.norm(unit[:, None] - unit[None], axis=2))


@pytest.mark.slow
def test_umap_sets_groups_apart_and_repeats() -> None:
    pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    centres = 5 * rng.normal(size=(3, 16))
    features = np.concatenate([c + rng.normal(size=(30, 16)) for c in centres]).astype(np.float32)
    points = place_points(features, "umap", 0)
    assert np.array_equal(points, place_points(features, "umap", 0))
    middles = points.reshape(3, 30, 2).mean(axis=1)
    nearest = np.linalg.norm(points[:, None] - middles[None], axis=2).argmin(axis=1)
    assert nearest.tolist() == np.repeat(range(3), 30).tolist()


def test_long_curves_are_thinned_to_their_end() -> None:
    points = [(float(i), 0.0) for i in range(100_001)]
    kept = thin(points)
    assert len(kept) <= 502 and kept[0] == points[0] and kept[-1] == points[-1]
    assert thin(points[:3]) == points[:3] and thin([]) == []


def test_a_table_as_text_quotes_what_needs_it() -> None:
    assert csv_of(["a", "b"], [["x,y", 1.5]]) == 'a,b\n"x,y",1.5\n'


def test_pictures_of_rcdm_are_no_evaluation_and_have_their_section(tmp_path: Path) -> None:
    place = tmp_path / "rcdm"
    log = place / "20260101_000000" / "vis_data" / "scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text("{}")
    for name, command in {"a": "rcdm sample", "b": "rcdm recognise", "c": "knn"}.items():
        (place / name).mkdir()
        content = {"tool": command, "settings": {}, "metrics": {}}
        (place / name / "results.json").write_text(json.dumps(content))
        Image.new("RGB", (20, 10)).save(place / name / f"picture_{name}.png")
    work = WorkDir(place, "rcdm")
    shown = rcdm.section(Run(work, Options())).body
    assert "picture_a.png" in shown and "picture_b.png" in shown and "picture_c" not in shown


def test_a_method_without_prototypes_says_so(trained: Path) -> None:
    run = Run(WorkDir(trained, "digits"), Options())
    cfg = load_config("configs/mae_digits.py")
    assert num_prototypes_of(cfg) is None
    vars(run)["model"] = MODELS.build(cfg.model)
    with pytest.raises(UserError, match="MAE is a method without prototypes"):
        prototypes.section(run)
