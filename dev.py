"""The project's chores: each sets up what it needs in `.venv` first. Needs Python 3.11 and nothing else.

    python3 dev.py demo                ask the embedded model a fresh problem, watch it denoise the answer, and check it
    python3 dev.py test [-k conv ...]  ruff, mypy and the quick tests; further words go to pytest
    python3 dev.py test-all            the same with the slow tests, and those for a GPU where there is one
    python3 dev.py test-versions       models, caches, generate and trainers on the oldest and the newest releases of
                                       Transformers, TRL and PEFT that pyproject.toml allows
    python3 dev.py browser             Chromium for the tests of the live page, by apt-get; they are skipped without one
    python3 dev.py lint                ruff and mypy
    python3 dev.py build               wheel and sdist into dist/
    python3 dev.py clean               remove .venv and what the tools left behind

`make demo`, `make test` and so on are the same commands.
"""

from __future__ import annotations  # an older Python must get as far as the message that it is too old

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
PACKAGES = Path(sysconfig.get_path("purelib", "venv", {"base": str(VENV)}))
EXTRAS = {"demo": "", "dev": "[train,quant,eval,demo,serve,docs,dev]"}

# A worker for each core, of one thread (tests/conftest.py); beyond a few there is little to gain, for each takes a
# gigabyte and some seconds to start. A file stays with one worker, for what its tests share is set up once, and files
# are begun in the order that tests/conftest.py gives. `--pdb` and `-n 0`, given after these, do without workers.
IN_PARALLEL = ["-n", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
IN_PARALLEL += ["--max-worker-restart", "0"]  # a crash ends the run and is shown once; else its file is begun again

# What is overridden or relied on in these is private in good part (conv_dlm/contract.py).
OVERRIDDEN = ("transformers", "trl", "peft")
TESTS_OF_VERSIONS = [
    "tests/test_contract.py",
    *(f"tests/models/test_{name}.py" for name in ("forward", "parity", "self_contained")),
    *(f"tests/generation/test_{name}.py" for name in ("capabilities", "caches", "parity", "recorded", "generate")),
    "tests/hub/test_fresh_environment.py::test_its_code_projects_the_window_alone_and_has_all_caches",
    "tests/hub/test_fresh_environment.py::test_code_that_lies_beside_a_checkpoint_is_enough",
    *(f"tests/trainers/test_{name}.py" for name in ("tokenizing", "mdlm_trainer", "r2ft_trainer", "checkpoints")),
    "tests/cli/test_fit.py::test_a_folder_needs_no_weights",
    *(f"tests/trainers/test_{name}.py" for name in ("grpo_trainer", "distillation", "bd3lm")),
]


def main(words: list[str]) -> int:
    if sys.version_info < (3, 11):
        sys.exit(f"conv-dlm needs Python 3.11 or newer, not {sys.version.split()[0]}; try python3.11.")
    if not words or words[0] not in CHORES:
        print(__doc__)
        return 0 if words in (["-h"], ["--help"]) else 2
    os.chdir(ROOT)
    return CHORES[words[0]](words[1:])


def demo(words: list[str]) -> int:
    set_up("demo")
    print(" ".join(["$ conv-dlm problem", *words]), end="\n\n", flush=True)
    return run(BIN / "conv-dlm", "problem", *words)


def test(words: list[str]) -> int:
    # In CI nothing may be skipped for want of a browser; on a person's machine nothing is installed unasked.
    from hub_cards.space.screenshots import find_browser  # whose names of browsers the page's tests take too

    missing = os.environ.get("CI") and find_browser() is None
    return (browser([]) if missing else 0) or lint([]) or run(PYTHON, "-m", "pytest", *IN_PARALLEL, *words)


def test_all(words: list[str]) -> int:
    return test(["-m", "slow or not slow", *words])


def test_versions(words: list[str]) -> int:
    set_up("dev")
    for name, releases in releases_to_test().items():
        python = set_up_releases(name, releases)
        print(f"\n{name}: {', '.join(releases)}", flush=True)
        if status := run(python, "-m", "pytest", *IN_PARALLEL, *TESTS_OF_VERSIONS, *words):
            return status
    return 0


def lint(words: list[str]) -> int:
    set_up("dev")
    return run(PYTHON, "-m", "ruff", "check", ".", *words) or run(PYTHON, "-m", "mypy")


def browser(words: list[str]) -> int:
    if shutil.which("apt-get") is None:
        sys.exit("Only apt-get is known here; install Chromium or Chrome as your system does it.")
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
    return run(*as_root, "apt-get", "update", "-qq") or run(*as_root, *install)


def build(words: list[str]) -> int:
    set_up("dev")
    return run(PYTHON, "-m", "hatchling", "build", *words)


def clean(words: list[str]) -> int:
    for name in (".venv", "dist", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    return 0


CHORES: dict[str, Callable[[list[str]], int]] = {
    "demo": demo,
    "test": test,
    "test-all": test_all,
    "test-versions": test_versions,
    "browser": browser,
    "lint": lint,
    "build": build,
    "clean": clean,
}


def run(*command: str | Path) -> int:
    """Run in the foreground, on the same terminal; Ctrl-C reaches the child, whose exit status counts."""
    with subprocess.Popen([str(word) for word in command]) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def set_up(kind: str) -> None:
    """Make `.venv` hold the package and its extras for `kind`; does nothing where that is so already.

    A stamp in `.venv` names what was installed: the installation is repeated when the requirements or the
    pinned versions change, and `demo` is content with what `dev` has installed.
    """
    ingredients = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    digest = hashlib.sha256(ingredients + sys.version.encode()).hexdigest()
    stamps = {name: VENV / f"installed-{name}" for name in EXTRAS}
    good_enough = [stamps["dev"], stamps[kind]]
    if PYTHON.exists() and any(stamp.is_file() and stamp.read_text() == digest for stamp in good_enough):
        return
    started = time.monotonic()
    print(f"Setting up .venv for `{kind}`; the first time takes minutes (PyTorch is large) ...", flush=True)
    if not PYTHON.exists():
        try:
            quietly([sys.executable, "-m", "venv", str(VENV)], "On Debian, `apt install python3-venv` helps.")
        except BaseException:  # Ctrl-C too: half an environment would look like a whole one the next time
            shutil.rmtree(VENV, ignore_errors=True)
            raise
    quietly(
        [str(PYTHON), "-m", "pip", "install", "-c", "constraints.txt", "-e", f".{EXTRAS[kind]}"],
        "pip's own settings apply, for a proxy or a mirror say (PIP_PROXY, PIP_INDEX_URL, ...).",
    )
    stamps[kind].write_text(digest)
    print(f"... done in {time.monotonic() - started:.0f} s.", flush=True)


def releases_to_test() -> dict[str, list[str]]:
    """The oldest releases that pyproject.toml allows of what is overridden, and requirements for the newest."""
    import tomllib  # of Python 3.11

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    newest = [line for line in lines if line.partition(">=")[0] in OVERRIDDEN]
    return {"oldest": [line.partition(",")[0].replace(">=", "==") for line in newest], "newest": newest}


def set_up_releases(name: str, releases: list[str]) -> Path:
    """An environment with these releases, in which everything else is that of `.venv`. Returns its python."""
    venv = VENV / "releases" / name
    python, packages = (venv / path.relative_to(VENV) for path in (PYTHON, PACKAGES))
    if not python.exists():
        quietly([str(PYTHON), "-m", "venv", str(venv)], "On Debian, `apt install python3-venv` helps.")
    (packages / "everything-else.pth").write_text(f"import site; site.addsitedir({str(PACKAGES)!r})\n")
    quietly([str(python), "-m", "pip", "install", "--upgrade", *releases], "It needs the package index, each time.")
    return python


def quietly(command: list[str], hint: str) -> None:
    """Run without a word; when it fails, show everything it said, and `hint`."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        sys.exit(f"{result.stdout}\n`{' '.join(command)}` failed. {hint}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
