"""The circumstances of a run: date, processor, memory, GPUs, and the commit of its code."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

from w2v2.json_types import Json

_ROOT = Path(__file__).resolve().parent.parent


def describe_run() -> dict[str, Json]:
    """Date (UTC), commit ("" where unknown) and the machine of this process, as plain JSON values.

    Imports neither torch nor Ray: on a cluster this is the machine that the job was started on.
    """
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": _cpu_name(),
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory_bytes / 1e9, 1),
        "gpus": gpu_names(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def commit(root: Path = _ROOT) -> str:
    """The commit of the code, with "-dirty" if files were changed since; "" outside of a git checkout."""
    # An installed package may be inside another project's checkout.
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return finished.stdout.strip() if finished.returncode == 0 else ""


def gpu_names(driver: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """The models of NVIDIA's GPUs in this machine, as their driver reports them."""
    return sorted(
        line.partition(":")[2].strip()
        for file in driver.glob("*/information")
        for line in file.read_text(errors="replace").splitlines()
        if line.startswith("Model:")
    )


def _cpu_name() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
