"""What every test may rely on: no network, one thread for each process, tiny random models with a tokenizer.

The models say nothing sensible; they are for shapes, seeds and plumbing. Fixtures are built once in a session
and shared: `copy.deepcopy` what a test wants to change.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# Some tests fork, which autograd survives as long as it has no threads. In the first backward pass of a process it
# starts them if it finds a device; so it looks for one now, before a test has PyTorch pretend to have one.
torch.zeros((), requires_grad=True).backward()

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

    from conv_dlm.models import LLaDAModelLM

SPECIAL_TOKENS = ("<|endoftext|>", "<|start|>", "<|end|>", "<|mask|>")  # pad, bos, eos, mask: ids 0 to 3
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: any text, 256 bytes + 4 special tokens, pads on the left."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *alphabet))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    pad, bos, eos, mask = SPECIAL_TOKENS
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=pad, bos_token=bos, eos_token=eos, mask_token=mask,
        padding_side="left", model_max_length=256,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def random_llada(**overrides: object) -> "LLaDAModelLM":
    """A LLaDA with 2 layers of width 32 for `byte_tokenizer`, seeded, in fp32 and eval mode.

    Args:
        overrides:
            Config keys of the original checkpoints (`d_model`, `n_layers`, ...) that replace the tiny ones.
    """
    from conv_dlm.models import LLaDAConfig, LLaDAModelLM

    settings = dict(
        d_model=32, n_layers=2, n_heads=4, n_kv_heads=4, mlp_hidden_size=48, max_sequence_length=256,
        vocab_size=260, embedding_size=260, pad_token_id=0, bos_token_id=1, eos_token_id=2, mask_token_id=3,
        rope_theta=10000.0, weight_tying=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LLaDAModelLM(LLaDAConfig(**(settings | overrides)))
        for parameter in model.parameters():
            if parameter.dim() > 1:  # wide enough that logits differ by more than rounding
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests for several workers, and skip those that nothing here can run.

    Files that launch processes come first: they take longest, and a worker that began one at the end would be waited
    for. `make test-all` asks for the tests marked `gpu` too; without one they are skipped, not failed.
    """
    items.sort(key=lambda item: not hasattr(getattr(item, "module", None), "launch"))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def pytest_collection_finish() -> None:
    """What has been imported is not garbage: Accelerate looks through all of it, for a second, whenever a trainer
    starts to train."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def always_the_same_draws() -> None:
    """What a test draws from the global generators, adapters say, does not depend on the tests before it."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def make_llada() -> Callable[..., "LLaDAModelLM"]:
    """`random_llada`, for tests that need a model of their own."""
    return random_llada


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with a chat template; ids: pad 0, bos 1, eos 2, mask 3."""
    return byte_tokenizer()


@pytest.fixture(scope="session")
def tiny_llada() -> "LLaDAModelLM":
    """A random LLaDA that fits `tiny_tokenizer`."""
    return random_llada()


@pytest.fixture(scope="session")
def tiny_llama() -> "LlamaForCausalLM":
    """A random causal language model that fits `tiny_tokenizer`; seldom sure of the next token."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_checkpoint(
    tiny_llada: "LLaDAModelLM",
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with `tiny_llada` and `tiny_tokenizer` as `save_pretrained` writes them."""
    folder = tmp_path_factory.mktemp("tiny-llada")
    tiny_llada.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


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
