"""`accelerate launch` of the scripts, in processes of their own, and what they leave behind."""

import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import psutil
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from safetensors.torch import load_file

from trainers import scripts

ROOT = Path(scripts.__file__).parents[1]
SECONDS = 240  # for a launch


def launched(name: str, *options: str) -> Namespace:
    """What `accelerate launch` makes of a file of configs/accelerate; keys that it doesn't know are an error."""
    file = str(ROOT / "configs" / "accelerate" / f"{name}.yaml")
    load_config_from_file(file)
    words = ["--config_file", file, *options, "train_sft.py"]
    return _validate_launch_command(launch_command_parser().parse_args(words))[0]


def launch(config: str, processes: int, *words: str, **environment: str) -> str:
    """Run `words` by a file of configs/accelerate; a failure shows what was said, and a hang where. Returns stdout."""
    launcher = ("-m", "accelerate.commands.launch", "--config_file", f"configs/accelerate/{config}.yaml")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ours = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    process = subprocess.Popen(
        [sys.executable, *launcher, "--num_processes", str(processes), *words],
        cwd=ROOT,
        env=os.environ | ours | {"PYTHONFAULTHANDLER": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        states = abort(process.pid)
        out, err = process.communicate(timeout=30)
        pytest.fail(f"Not done after {SECONDS} s.\n{states}\n{out[-2000:]}\n{err[-12000:]}")
    assert process.returncode == 0, out[-2000:] + err[-4000:]
    return out


def abort(pid: int) -> str:
    """End a launcher and its ranks, which are in sessions of their own, each with the Python stacks of its threads.

    They are printed by `faulthandler`. Returns what `ps` would have shown.
    """
    launcher = psutil.Process(pid)
    family = [*launcher.children(recursive=True), launcher]  # ranks first: the launcher would end them in its own way
    shown = "\n".join(f"{one.pid} {one.status()} {' '.join(one.cmdline())[:120]}" for one in family)
    for one in family:
        one.send_signal(signal.SIGABRT)
    _, left = psutil.wait_procs(family, timeout=10)
    for one in left:
        one.kill()
    return shown


def log_of(checkpoint: Path) -> list[dict[str, float]]:
    return json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]


def losses_of(checkpoint: Path) -> list[float]:
    return [entry["loss"] for entry in log_of(checkpoint) if "loss" in entry]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
