"""Stamps a wheel: the commit it is made from, and the sha256 of every file in it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: Directories beside the package that go into the wheel as its data, as pyproject.toml says.
DATA = ("abi-baselines", "containers", "patches", "specs")


class Stamp(BuildHookInterface):  # type: ignore[type-arg]
    """Adds ``pipeline/stamp.json`` to a wheel. An editable installation runs from the checkout: none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        top = Path(self.root)
        named = {p.relative_to(top / "pipeline").as_posix(): p for p in self._files(top / "pipeline")}
        for directory in DATA:
            named |= {f"data/{p.relative_to(top).as_posix()}": p for p in self._files(top / directory)}
        stamp = {
            "commit": self._git("rev-parse", "HEAD"),
            "changed": self._git("status", "--porcelain", "--", "pipeline", *DATA).splitlines(),
            "files": {name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in sorted(named.items())},
        }
        self.file = tempfile.NamedTemporaryFile("w", suffix=".json")  # noqa: SIM115  # lives until `finalize`
        json.dump(stamp, self.file, indent=1)
        self.file.flush()
        build_data["force_include"][self.file.name] = "pipeline/stamp.json"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if version != "editable":
            self.file.close()

    @staticmethod
    def _files(top: Path) -> list[Path]:
        return [p for p in top.rglob("*") if p.is_file() and "__pycache__" not in p.parts]

    def _git(self, *args: str) -> str:
        done = subprocess.run(["git", "-C", self.root, *args], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 and (Path(self.root) / ".git").exists() else ""
