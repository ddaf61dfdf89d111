"""Build step: the wheel also holds configs/ and exp/, inside the package; see pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies the YAML files of configs/ and exp/ to slowfast/configs and slowfast/exp.

    An editable install uses the folders of the clone instead.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        root = Path(__file__).resolve().parent
        for folder in ("configs", "exp"):
            for file in sorted((root / folder).rglob("*.yaml")):
                target = Path(self.build_lib, "slowfast", file.relative_to(root))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)


setup(cmdclass={"build_py": BuildWithRecipes})
