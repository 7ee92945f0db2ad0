"""Real human recordings, out of Debian's packages."""

import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = [f"asterisk-core-sounds-{language}-wav" for language in ("en", "es", "fr", "it", "ru")] + [
    "alsa-utils"
]


def debian_recordings(folder: Path) -> list[Path]:
    """The wav files of the packages, unpacked below the folder; the test is skipped where they cannot be had."""
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    got = subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, capture_output=True, text=True)
    if got.returncode:
        pytest.skip(f"the packages cannot be downloaded: {got.stderr[-200:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "x"], check=True)
    return sorted((folder / "x").rglob("*.wav"))
