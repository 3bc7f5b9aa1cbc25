"""The lazy visualizer draws what MMEngine's draws, and has no figure before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmengine.visualization import Visualizer

from msn_mm.registry import VISUALIZERS
from msn_mm.visualization.lazy_visualizer import LazyVisualizer

IMAGE = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)


def drawn(visualizer: Visualizer) -> np.ndarray:
    visualizer.draw_bboxes(np.array([2, 2, 9, 8]), edge_colors="g")
    visualizer.draw_texts("7", np.array([4.0, 4.0]))
    image = visualizer.get_image()
    assert isinstance(image, np.ndarray)
    return image


def test_it_draws_as_mmengine_s() -> None:
    lazy = LazyVisualizer(image=IMAGE, fig_save_cfg=dict(frameon=False, dpi=80))
    eager = Visualizer(image=IMAGE, fig_save_cfg=dict(frameon=False, dpi=80))
    assert lazy.dpi == eager.dpi == 80
    np.testing.assert_array_equal(drawn(lazy), drawn(eager))
    late = LazyVisualizer()
    late.set_image(IMAGE)
    eager = Visualizer(image=IMAGE)
    np.testing.assert_array_equal(drawn(late), drawn(eager))


def test_scalars_need_no_figure(tmp_path: Path) -> None:
    visualizer = VISUALIZERS.build(
        dict(
            type="LazyVisualizer",
            name="scalars",
            vis_backends=[dict(type="LocalVisBackend")],
            save_dir=str(tmp_path),
        )
    )
    visualizer.add_scalar("loss", 0.5, 3)
    assert "fig_save" not in vars(visualizer)
    assert list(tmp_path.rglob("scalars.json"))
    with pytest.raises(AttributeError, match="no attribute 'figure'"):
        _ = visualizer.figure
    assert visualizer.ax_save is visualizer.fig_save.axes[0]
