import sys

import pytest

from conv_dlm.utils.environment import describe_run, device_name


def test_a_run_can_be_repeated_from_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--model", "/somebody/model", "--steps", "8", "two words", "a=/b/c", "d=e/f"]
    monkeypatch.setattr(sys, "argv", ["ignored.py", *words])
    run = describe_run("python -m benchmarks.some", "cpu")
    assert run["command"] == "python -m benchmarks.some --model model --steps 8 'two words' a=c d=e/f"
    assert {"conv_dlm", "python", "torch", "transformers"} == set(run["versions"])
    assert run["threads"] >= 1
    assert run["device"] == device_name("cpu") != ""
