"""`accelerate launch` of the scripts, in processes of their own, and what they leave behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from trainers import scripts

ROOT = Path(scripts.__file__).parents[1]


def launch(config: str, processes: int, *words: str, **environment: str) -> str:
    """Run `words` by a file of configs/accelerate; a failure shows what was said. Returns standard output."""
    launcher = ("-m", "accelerate.commands.launch", "--config_file", f"configs/accelerate/{config}.yaml")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ours = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    process = subprocess.run(
        [sys.executable, *launcher, "--num_processes", str(processes), *words],
        cwd=ROOT,
        env=os.environ | ours | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-4000:]
    return process.stdout


def log_of(checkpoint: Path) -> list[dict[str, float]]:
    return json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]


def losses_of(checkpoint: Path) -> list[float]:
    return [entry["loss"] for entry in log_of(checkpoint) if "loss" in entry]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
