"""The one step that setup.cfg cannot say: configs and tools travel inside the package."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = ("configs", "tools")


class BuildWithConfigs(build_py):
    """Copy ``configs`` and ``tools`` to ``msn_mm/configs`` and ``msn_mm/tools`` of a wheel.

    An editable install reads them where they lie.
    """

    def run(self) -> None:
        """Build the package, then put the directories into it."""
        super().run()
        if self.editable_mode:
            return
        for name in CARRIED:
            target = Path(self.build_lib, "msn_mm", name)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(name, target, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": BuildWithConfigs})
