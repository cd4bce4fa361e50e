"""Build hook: compile what counts in memory, if HATCH_BUILD_HOOKS_ENABLE=true asks for it.

hatch-mypyc is not used, as it compiles in the source tree, leaves the result there, where it is
imported from then on and gets into later pure wheels, and moves pyproject.toml away meanwhile.
Here all that is done in a copy. The wheel has the sources beside what is made of them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: All that reads or writes a `BufferedKey` often: interpreted code reads attributes of compiled
#: classes more slowly than its own, so fewer would gain less or nothing.
MODULES = (
    "distkit_actors/_instance/_holds.py",
    "distkit_actors/_instance/_buffered_key.py",
    "distkit_actors/_instance/_write_buffer.py",
    "distkit_actors/_actor/_partitioned_buffer.py",
    "distkit_actors/_counters/_compiled.py",
)

# The rest of the package is read for its types. It has been checked before, and what it imports
# need not be there.
_SETUP = f"""
from mypyc.build import mypycify
from setuptools import setup

options = ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports"]
modules = mypycify([*options, *{MODULES}], debug_level="0", group_name="distkit_actors")
setup(name="compiled", packages=[], ext_modules=modules)
"""


class CompiledBuildHook(BuildHookInterface[Any]):
    """Adds extension modules to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say where the result is."""
        if version == "editable":
            raise ValueError("an editable install cannot be compiled: it runs the source tree")
        self._copy = tempfile.TemporaryDirectory(prefix="distkit_actors-")
        directory = Path(self._copy.name)
        shutil.copytree(Path(self.root, "distkit_actors"), directory / "distkit_actors")
        (directory / "setup.py").write_text(_SETUP, encoding="utf-8")
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
        subprocess.run(command, cwd=directory, check=True)
        for pattern in ("*.so", "*.pyd"):
            for path in directory.rglob(pattern):
                inside = path.relative_to(directory)
                if inside.parts[0] != "build":
                    build_data["force_include"][str(path)] = inside.as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, *_: Any) -> None:
        """Remove the copy."""
        self._copy.cleanup()
