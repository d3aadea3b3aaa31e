"""What every result file records about its run: command, date, versions, device."""

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

import conv_dlm

ROOT = Path(__file__).resolve().parents[2]  # of a checkout


def describe_run(program: str, device: torch.device | str) -> dict[str, Any]:
    """Describe this run for a result file. Of absolute paths only the last part is recorded.

    Args:
        program (`str`): how it is called, such as `python -m benchmarks.step_overhead`; arguments come from `sys.argv`.
        device (`torch.device` or `str`): the device that it uses.

    Returns:
        `dict`: `command`, `date`, `commit`, `versions`, `device` and `threads`.
    """
    return {
        "command": shlex.join([*program.split(), *map(_shown, sys.argv[1:])]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {
            "conv_dlm": conv_dlm.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }


def _shown(argument: str) -> str:
    """The argument; of an absolute path, alone or in `name=path`, only the last part."""
    name, equals, path = argument.rpartition("=")
    return name + equals + (Path(path).name if Path(path).is_absolute() else path)


def device_name(device: torch.device | str) -> str:
    """A readable name of the GPU or the processor."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if device.type == "cpu" and info.is_file():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            return f"{names[0]}, {torch.backends.cpu.get_cpu_capability()}, {len(names)} cores"
    return platform.processor() or device.type


def _commit() -> str | None:
    if not (ROOT / ".git").exists():  # installed; the folder may belong to some other repository
        return None
    try:
        return subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
