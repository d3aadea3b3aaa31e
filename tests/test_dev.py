"""dev.py installs what is missing, once, and again when the requirements change."""

import subprocess
import sys
from pathlib import Path

import pytest

import dev


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """A project of its own in `tmp_path`, where commands are recorded, not run; `venv` leaves its python behind."""
    venv = tmp_path / ".venv"
    recorded: list[list[str]] = []

    def record(command: list[str], hint: str) -> None:
        recorded.append(command)
        if "venv" in command:
            (venv / "bin").mkdir(parents=True)
            (venv / "bin" / "python").touch()

    for name, value in {"ROOT": tmp_path, "VENV": venv, "PYTHON": venv / "bin" / "python", "quietly": record}.items():
        monkeypatch.setattr(dev, name, value)
    (tmp_path / "pyproject.toml").write_text("[project]")
    (tmp_path / "constraints.txt").write_text("torch==1")
    return recorded


def test_installs_once(commands: list[list[str]]) -> None:
    dev.set_up("demo")
    assert [command[2] for command in commands] == ["venv", "pip"]
    assert commands[1][-2:] == ["-e", "."]
    dev.set_up("demo")
    assert len(commands) == 2


def test_installs_again_when_requirements_change(commands: list[list[str]]) -> None:
    dev.set_up("dev")
    (dev.ROOT / "constraints.txt").write_text("torch==2")
    dev.set_up("dev")
    assert [command[2] for command in commands] == ["venv", "pip", "pip"]


def test_demo_is_content_with_what_tests_need_but_not_the_reverse(commands: list[list[str]]) -> None:
    dev.set_up("demo")
    dev.set_up("dev")
    assert commands[-1][-1] == ".[train,quant,eval,demo,serve,docs,dev]"
    dev.set_up("demo")
    assert len(commands) == 3


def test_half_an_environment_is_removed(commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], hint: str) -> None:
        (dev.VENV / "bin").mkdir(parents=True)
        dev.PYTHON.touch()
        sys.exit("no ensurepip")

    monkeypatch.setattr(dev, "quietly", fail)
    with pytest.raises(SystemExit, match="ensurepip"):
        dev.set_up("demo")
    assert not dev.VENV.exists()


def test_quiet_commands_speak_when_they_fail(capfd: pytest.CaptureFixture[str]) -> None:
    dev.quietly([sys.executable, "-c", "print('all is well')"], "no hint")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(SystemExit, match=r"out of luck(.|\n)*buy some"):
        dev.quietly([sys.executable, "-c", "print('out of luck'); raise SystemExit(3)"], "buy some")


def test_exit_status_is_the_childs() -> None:
    assert dev.run(sys.executable, "-c", "raise SystemExit(7)") == 7
    unknown = subprocess.run([sys.executable, "dev.py", "dance"], cwd=Path(dev.__file__).parent, capture_output=True)
    assert unknown.returncode == 2
    assert b"dev.py demo" in unknown.stdout


def test_pytest_runs_in_parallel_with_the_words_given_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they win: `-n 0`, say."""
    ran: list[tuple[object, ...]] = []
    monkeypatch.setattr(dev, "lint", lambda words: 0)
    monkeypatch.setattr(dev, "run", lambda *command: ran.append(command) or 0)
    assert dev.test(["-k", "conv", "-x"]) == 0
    assert ran == [(dev.PYTHON, "-m", "pytest", *dev.IN_PARALLEL, "-k", "conv", "-x")]


@pytest.mark.parametrize(("ci", "found", "asked"), [("true", False, 1), ("true", True, 0), ("", False, 0)])
def test_ci_installs_a_browser_and_nobody_else_unasked(
    monkeypatch: pytest.MonkeyPatch, ci: str, found: bool, asked: int
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(dev.shutil, "which", lambda name: name if found or name == "apt-get" else None)
    monkeypatch.setattr(dev, "run", lambda *command: calls.append([str(word) for word in command]) or 0)
    monkeypatch.setattr(dev, "set_up", lambda kind: None)
    assert dev.test(["-k", "nothing"]) == 0
    assert sum("chromium" in call for call in calls) == asked
    assert calls[-1][-2:] == ["-k", "nothing"]


def test_without_apt_the_browser_is_left_to_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="install Chromium or Chrome as your system does it"):
        dev.browser([])


def test_versions_are_the_bounds_of_the_requirements(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (dev.ROOT / "pyproject.toml").write_text(
        '[project]\ndependencies = ["torch>=2", "transformers>=5.22,<6"]\n'
        '[project.optional-dependencies]\ntrain = ["trl>=1.16,<2", "peft>=0.21", "datasets>=4"]\n'
    )
    monkeypatch.setattr(dev, "PACKAGES", dev.VENV / "lib" / "site-packages")
    (dev.VENV / "releases" / "oldest" / "lib" / "site-packages").mkdir(parents=True)
    oldest, newest = dev.releases_to_test().items()
    assert oldest == ("oldest", ["transformers==5.22", "trl==1.16", "peft==0.21"])
    assert newest == ("newest", ["transformers>=5.22,<6", "trl>=1.16,<2", "peft>=0.21"])
    python = dev.set_up_releases(*oldest)
    assert commands[-1] == [str(python), "-m", "pip", "install", "--upgrade", *oldest[1]]
    assert commands[-2][1:3] == ["-m", "venv"] and "releases" in str(python)


def test_versions_stop_at_the_first_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Path] = []
    monkeypatch.setattr(dev, "set_up", lambda kind: None)
    monkeypatch.setattr(dev, "set_up_releases", lambda name, releases: Path(name))
    monkeypatch.setattr(dev, "run", lambda python, *words: ran.append(python) or 3)
    assert dev.test_versions([]) == 3 and ran == [Path("oldest")]
    monkeypatch.setattr(dev, "run", lambda python, *words: ran.append(python) or 0)
    assert dev.test_versions([]) == 0 and ran[1:] == [Path("oldest"), Path("newest")]


def test_the_tests_of_versions_exist() -> None:
    assert all((Path(dev.__file__).parent / path.partition("::")[0]).exists() for path in dev.TESTS_OF_VERSIONS)
