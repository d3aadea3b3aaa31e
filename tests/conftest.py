"""What every test may rely on: no network, one thread for each process, tiny random models with a tokenizer.

Fixtures are built once in a session and shared: `copy.deepcopy` what a test wants to change. What takes seconds to
import is imported where it is used, for the process that hands out the tests has no use for it.
"""

import os

# Before torch and transformers are imported: no look at the Hub, and one thread (of OpenMP, of which MKL and PyTorch
# take their number) for each worker of pytest and each process that a test starts, for the cores are shared by them.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# On some CPUs MKL's products depend, in the last digit, on where a matrix lies in memory; not so in this mode.
os.environ.setdefault("MKL_CBWR", "AUTO")

import contextlib
import gc
import random
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from conv_dlm.models import LLaDAModelLM

# Files that take longest, and are begun first: a worker that began one at the end would be waited for.
LONGEST = (
    "hub_cards/test_embedded_accuracy.py",
    "docs/test_commands.py",
    "generation/test_caches.py",
    "demo/test_page.py",
    "models/test_published_samplers.py",
    "cli/test_fit.py",
    "generation/test_compile.py",
    "generation/test_recorded.py",
    "docs/test_text.py",
    "test_package.py",
    "test_api_reference.py",
    "trainers/test_train_sft.py",
    "generation/test_properties.py",
    "benchmarks/test_train_memory.py",
    "word_problems/test_problems.py",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nothing of what is imported for the tests is garbage, and to look through it took a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests for several workers, and skip those that nothing here can run.

    `make test-all` asks for the tests marked `gpu` too; without one they are skipped, not failed.
    """
    import torch

    first = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path, len(first)))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def pytest_collection_finish() -> None:
    """Before the first test: what has been imported is not garbage, and a test may fork.

    Accelerate looks through all that isn't frozen, for a second, whenever a trainer starts to train.
    """
    import torch

    # Autograd survives a fork as long as it has no threads. In the first backward pass of a process it starts them if
    # it finds a device; so it looks for one now, before a test has PyTorch pretend to have one.
    torch.zeros((), requires_grad=True).backward()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)  # looked through less often: little of what tests leave behind is large


@pytest.fixture(autouse=True)
def always_the_same_draws() -> None:
    """What a test draws from the global generators, adapters say, does not depend on the tests before it."""
    import torch

    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def make_llada() -> Callable[..., "LLaDAModelLM"]:
    """`random_llada`, for tests that need a model of their own."""
    from tests.tiny import random_llada

    return random_llada


@pytest.fixture(scope="session")
def tiny_tokenizer() -> "PreTrainedTokenizerFast":
    """A byte-level tokenizer with a chat template; ids: pad 0, bos 1, eos 2, mask 3."""
    from tests.tiny import byte_tokenizer

    return byte_tokenizer()


@pytest.fixture(scope="session")
def tiny_llada(make_llada: Callable[..., "LLaDAModelLM"]) -> "LLaDAModelLM":
    """A random LLaDA that fits `tiny_tokenizer`."""
    return make_llada()


@pytest.fixture(scope="session")
def tiny_llama() -> "LlamaForCausalLM":
    """A random causal language model that fits `tiny_tokenizer`; seldom sure of the next token."""
    from tests.tiny import random_llama

    return random_llama()


@pytest.fixture(scope="session")
def tiny_checkpoint(
    tiny_llada: "LLaDAModelLM",
    tiny_tokenizer: "PreTrainedTokenizerFast",
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with `tiny_llada` and `tiny_tokenizer` as `save_pretrained` writes them."""
    folder = tmp_path_factory.mktemp("tiny-llada")
    tiny_llada.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def causal_checkpoint(
    tiny_llama: "LlamaForCausalLM",
    tiny_tokenizer: "PreTrainedTokenizerFast",
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with `tiny_llama`, which denoises nothing, and `tiny_tokenizer`."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    tiny_llama.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def few_drills() -> Iterator[None]:
    """A new tokenizer sees the numbers 200 times: enough beside few texts, where all times take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainers.from_scratch._DRILLS", 200)
        yield


@contextlib.contextmanager
def serving(
    model: Any,
    tokenizer: Any,
    name: str = "tiny",
    *,
    options: dict[str, Any] | None = None,
    system: str | None = None,
    api_key: str | None = None,
    max_batch_size: int = 8,
    max_queue: int = 64,
) -> Iterator[str]:
    """A server of the model in a thread, at the address that it gives: 128 new tokens and 256 steps at most."""
    from conv_dlm.answering.prompting import Prompter
    from conv_dlm.serving.app import build_app
    from conv_dlm.serving.queue import Worker
    from conv_dlm.serving.served import Limits, ServedModel
    from conv_dlm.serving.server import in_background

    served = ServedModel(name, model, tokenizer, Prompter(tokenizer, system), options or {}, Limits(128, 256))
    worker = Worker(model, max_batch_size, max_queue)
    app = build_app(served, worker, max_request_bytes=1 << 16, api_key=api_key)
    with in_background(app, worker) as address:
        yield address


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[str]]:
    """`serving`, for the tests that ask a server."""
    return serving
