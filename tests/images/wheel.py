"""Builds the wheel as the Dockerfiles' stage `wheel` does, and installs it as their last one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.images.dockerfile import ROOT, Dockerfile, is_sent


def sent_files() -> list[str]:
    """The files of the repository that a build gets."""
    tracked = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(tracked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in names.splitlines() if is_sent(name) and (ROOT / name).is_file()]


def build_wheel(folder: Path) -> Path:
    """Build the wheel of what the Dockerfile copies into that stage, and of nothing else."""
    source = folder / "build"
    for copy in Dockerfile.named("Dockerfile").every("COPY"):
        if copy.stage == "wheel":
            for name in sent_files():
                if any(name == place or name.startswith(f"{place}/") for place in copy.words[:-1]):
                    (source / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / name, source / name)
    # Without isolation, so that it needs no package index.
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    run([*command, "--wheel-dir", str(folder), "."], source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, folder: Path) -> Path:
    """The `bin` of a new environment, which has this one's packages and sfumato from the wheel."""
    environment = folder / "environment"
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)], folder)
    python = environment / "bin/python"
    # Paths of a .pth file come after the environment's own packages, and their .pth files, such as
    # that of an editable sfumato, are not read.
    (packages,) = environment.glob("lib/*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"])
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    run([*pip, "--no-deps", "--no-index", str(wheel)], folder)
    return python.parent


def run(command: list[str], folder: Path) -> str:
    """What the command prints, run outside of the repository."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        command, cwd=folder, env=outside, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
