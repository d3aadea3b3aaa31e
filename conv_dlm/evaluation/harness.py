"""Masked diffusion LMs in lm-evaluation-harness, as its model `conv_dlm`.

    python -m conv_dlm.evaluation.harness --model conv_dlm \\
        --model_args pretrained=GSAI-ML/LLaDA-8B-Instruct,decode_type=conv --tasks gsm8k

Only `model_args` set how text is denoised. A task's `generation_kwargs` are written for autoregressive models: their
stop strings and length are used, and a warning names the rest. This module is the `lm_eval` command with one more
model, because lm-eval 0.4.13 has a fixed list of models, and one more task, `word_problems`.
"""

import difflib
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.model import CacheHook
from lm_eval.api.registry import model_registry
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window, simple_parse_args_string, warning_once
from tqdm import tqdm

import conv_dlm
from conv_dlm.answering.answers import answer_tokens, text_of, until_end
from conv_dlm.answering.batching import row_generator
from conv_dlm.answering.loading import identity, load_model
from conv_dlm.evaluation.harness_base import NAME, BaseLM, logger
from conv_dlm.evaluation.likelihood import Estimate, LikelihoodEstimator, Question, batches, seed_of, total
from conv_dlm.evaluation.respondent import decoding_fields
from conv_dlm.generation.arguments import as_whole
from conv_dlm.generation.capabilities import longest_context
from conv_dlm.generation.configuration import all_settings
from conv_dlm.generation.settings import Setting

FURTHER_OPTIONS = ("top_p", "min_p", "suppress_tokens", "bad_words_ids", "eos_token_id")
DEFAULT_LENGTH = 256  # of a response, if nothing sets it; lm-eval's own
LENGTH_NAMES = frozenset({"max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"})
UNSAID_DEVICE = ("device", "cuda:0")
CACHE_KEY = "conv_dlm settings"
COUNTS = {
    "batch_size": Setting("texts per forward pass", low=1, kind=int),
    "max_length": Setting("tokens of prompt and response", low=2, kind=int),
    "mc_draws": Setting("maskings per estimate", low=2, kind=int),
    "max_new_tokens": Setting("tokens of a response", low=0, kind=int),
}
TASKS = Path(__file__).with_name("lm_eval_tasks")


@dataclass(frozen=True)
class GenerationRequest:
    """A text to generate; `turn` numbers the answers when a task wants several to the same request."""

    index: int
    ids: list[int]
    new_tokens: int
    until: list[str]
    turn: int


def option_names() -> list[str]:
    """The fields of the generation config that `model_args` may set."""
    return [*decoding_fields(), *FURTHER_OPTIONS]


class ConvDLM(BaseLM):
    """A masked diffusion LM for lm-evaluation-harness; its arguments are the `model_args`.

    Apart from floating-point rounding, results depend neither on the batch size, nor on the order of the requests, nor
    on the number of processes.

    Args:
        pretrained (`str` or model, *optional*):
            Name or folder of a model or an adapter. Defaults to the embedded model. In Python it may be a loaded model,
            such as `conv_dlm.enable_diffusion` returns.
        tokenizer (`str` or tokenizer, *optional*): defaults to the model's.
        peft (`str`, *optional*): name or folder of a PEFT adapter for the model.
        quantize (`str`, *optional*): "8bit" or "4bit".
        dtype (`str`, *optional*): defaults to the checkpoint's; on a CPU to float32.
        device (`str`, *optional*): "auto" spreads the model over all devices. With `accelerate launch`, each process
            has its own.
        batch_size (`int`, *optional*, defaults to `1`): texts, or maskings of texts, per forward pass.
        max_length (`int`, *optional*):
            Tokens of prompt and response together. Defaults to the model's context. Longer prompts lose their start,
            and the results say how many did.
        mc_draws (`int`, *optional*, defaults to `128`): maskings per likelihood estimate, an even number.
        seed (`int`, *optional*, defaults to `0`): seed of all draws. When lm-eval creates the model, its `--seed`
            (torch's, 1234).
        options: fields of the generation config, see `option_names`. `max_new_tokens` overrides the task's length.

    Attributes:
        estimates (`dict`): the `Estimate` of each likelihood by the request's arguments.

    Raises:
        ValueError: an unknown argument, contradictory options, or no mask token.
    """

    def __init__(
        self,
        pretrained: Any = None,
        *,
        tokenizer: Any = None,
        peft: str | None = None,
        quantize: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
        batch_size: int | str = 1,
        max_length: int | None = None,
        mc_draws: int = 128,
        seed: int = 0,
        **options: Any,
    ) -> None:
        _check_arguments(options)
        super().__init__(device)
        if "max_new_tokens" in options:
            options["max_new_tokens"] = _count("max_new_tokens", options["max_new_tokens"], optional=True)
        max_length = _count("max_length", max_length, optional=True)
        mc_draws, self.batch_size = _count("mc_draws", mc_draws), _count("batch_size", batch_size)
        self.seed, self.options = _whole("seed", seed), options
        texts = {"peft": peft, "quantize": quantize, "dtype": dtype, "device": device}
        if not hasattr(pretrained, "generate"):
            texts |= {"pretrained": pretrained, "tokenizer": tokenizer}
        for argument, value in texts.items():
            if value is not None and not isinstance(value, str):
                raise ValueError(f"`{argument}`={value!r} must be text, such as a name; put it in quotes.")
        name = pretrained
        if pretrained is None or isinstance(pretrained, str):
            how = {"device": self.device, "dtype": dtype, "quantize": quantize}
            self.model, self.tokenizer = load_model(pretrained, tokenizer=tokenizer, **how)
        else:
            for argument, value in {"device": device, "dtype": dtype, "quantize": quantize}.items():
                if value is not None:
                    raise ValueError(f"`{argument}`={value!r} has no effect on a model that is loaded; drop it.")
            self.model, self.tokenizer, name = pretrained.eval(), tokenizer, type(pretrained).__name__
        if peft is not None:
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, peft).eval()
        if hasattr(self.model, "get_base_model"):  # the adapters stay in it
            self.model = self.model.get_base_model()
        self._device = self.model.device

        config = self.model.resolve_settings(**options)
        if config.mask_token_id is None:
            raise ValueError("`mask_token_id` is not known: the model's config names no mask token. Pass it.")
        self.max_length = _context_length(self.model.config, max_length)
        if config.mask_token_id in self.tokenizer.added_tokens_decoder:  # elsewhere no text becomes it
            self.names_as_text = {str(self.tokenizer.added_tokens_decoder[config.mask_token_id])}
        guidance = 1.0 if config.guidance_scale is None else config.guidance_scale
        self._estimator = LikelihoodEstimator(
            self.model, config.mask_token_id, mc_draws, self.seed, self.batch_size, guidance
        )
        self.estimates: dict[tuple[str, ...], Estimate] = {}
        self.settings = identity(peft or name, self.model) | {
            "quantize": quantize,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "max_length": self.max_length,
            "mc_draws": mc_draws,
            "seed": self.seed,
            "decoding": {option: getattr(config, option) for option in option_names()}
            | {"max_new_tokens": options.get("max_new_tokens")},  # else the task's
        }

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: Any = None) -> "ConvDLM":
        """Called by lm-eval. It has set torch's seed from `--seed`, and passes `cuda:0` if the user names no device."""
        given = {name: value for name, value in (additional_config or {}).items() if (name, value) != UNSAID_DEVICE}
        return super().create_from_arg_obj({"seed": torch.initial_seed(), **arg_dict}, given)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Any = None) -> "ConvDLM":
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    def get_model_info(self) -> dict[str, Any]:
        """Stored in lm-eval's results under `config`: the settings, the costs, and the standard errors."""
        counted = dict(self.counted)
        variance, likelihoods = counted.pop("likelihood_variance", 0.0), counted.get("likelihoods", 0)
        error = {"likelihood_rms_standard_error": math.sqrt(variance / likelihoods)} if likelihoods else {}
        ours = {"version": conv_dlm.__version__, **self.settings, "counted": counted | error}
        return {"model_num_parameters": self.model.num_parameters(), NAME: ours}

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Called for `--use_cache`. lm-eval finds answers by the request alone, so other settings are rejected.

        Raises:
            ValueError: the cache is not of this model with these settings; names what differs.
        """
        kept = cache_hook.dbdict
        if kept is not None:
            if len(kept) == 0:
                kept[CACHE_KEY] = self.settings
            theirs = kept.get(CACHE_KEY, {})
            differ = [name for name, value in self.settings.items() if theirs.get(name) != value]
            if differ:
                shown = "; ".join(f"{name}: {theirs.get(name)!r}, now {self.settings[name]!r}" for name in differ)
                raise ValueError(f"`--use_cache` names a cache of another run ({shown}). Name another, or remove it.")
        super().set_cache_hook(cache_hook)

    # --- generation ---

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate a text for each request. Text after a stop string is denoised too, then cut off."""
        texts = [""] * len(requests)
        jobs = sorted(self._jobs(requests), key=lambda job: (job.new_tokens, -len(job.ids)))
        with tqdm(total=len(jobs), desc="Denoising", disable=disable_tqdm or self.rank > 0) as progress:
            for _, alike in groupby(jobs, key=lambda job: job.new_tokens):
                for batch in batches(alike, self.batch_size):
                    for job, text in zip(batch, self._texts(batch), strict=True):
                        texts[job.index] = text
                        self.cache_hook.add_partial("generate_until", requests[job.index].args, text)
                    progress.update(len(batch))
        return texts

    def _jobs(self, requests: Sequence[Any]) -> Iterator[GenerationRequest]:
        turns: Counter[int] = Counter()
        for index, request in enumerate(requests):
            context, gen_kwargs = request.args
            new_tokens, until = self._length_and_stops(gen_kwargs)
            ids = self.shorten(self.tok_encode(context) or [self.prefix_token_id], new_tokens)
            yield GenerationRequest(index, ids, new_tokens, until, turns[id(request)])
            turns[id(request)] += 1  # lm-eval asks for several answers by repeating the object

    def _length_and_stops(self, gen_kwargs: Mapping[str, Any]) -> tuple[int, list[str]]:
        """The used part of a task's `generation_kwargs`. A warning names the rest; our own settings raise an error."""
        ours = sorted(gen_kwargs.keys() & all_settings().keys())
        if ours:
            raise ValueError(f"`{ours[0]}` has no effect in `--gen_kwargs`; put it into `--model_args`.")
        for name in LENGTH_NAMES & gen_kwargs.keys():
            _count("max_new_tokens", gen_kwargs[name], optional=True, called=name)
        known = normalize_gen_kwargs(dict(gen_kwargs) | {"temperature": 0.0}, DEFAULT_LENGTH)
        stops = [stop for stop in known["until"] if stop]
        wrong = next((stop for stop in stops if not isinstance(stop, str)), None)
        if wrong is not None:
            raise ValueError(f"A task's `until` has {wrong!r}; it must be a text, or a list of texts.")
        fixed = self.options.get("max_new_tokens")
        used = {"until"} if fixed is not None else {"until", *LENGTH_NAMES}
        unused = {name: value for name, value in gen_kwargs.items() if name not in used}
        if unused:
            said = {name: self.settings["decoding"][name] for name in ("decode_type", "do_sample", "temperature")}
            warning_once(logger, f"The task's {unused} are not used; `model_args` say {said | self.options}.")
        return known["max_gen_toks"] if fixed is None else fixed, stops

    def _texts(self, batch: Sequence[GenerationRequest]) -> list[str]:
        how = {"padding_side": "left", "return_tensors": "pt"}
        inputs = self.tokenizer.pad({"input_ids": [job.ids for job in batch]}, **how)
        generators = [row_generator(seed_of(Question(tuple(job.ids), ()), self.seed), job.turn) for job in batch]
        options = {**self.options, "max_new_tokens": batch[0].new_tokens}
        answers = answer_tokens(self.model, inputs, generators, **options)
        special = {token.content: i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        texts = []
        for job, given in zip(batch, answers, strict=True):
            # stop strings that are special tokens are gone once the text is decoded
            ids, _ = until_end(given.ids, {special[stop] for stop in job.until if stop in special})
            texts.append(postprocess_generated_text(text_of(self.tokenizer, ids), job.until, None))
            self.count(texts=1, tokens=len(ids), forwards=given.forwards, seconds=given.seconds)
        return texts

    # --- likelihood ---

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of responses to prompts. Raises ValueError for a response without text."""
        for request in requests:
            if request.args[1] == "":
                raise ValueError(f"The response '' has no tokens of its own after {request.args[0][-40:]!r}.")
        return list(super().loglikelihood(requests, disable_tqdm))

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Called by the base class's `loglikelihood` with prompts and responses as tokens."""
        for (prompt, response), _, tokens in requests:
            if not tokens:
                raise ValueError(f"The response {response!r} has no tokens of its own after {prompt[-40:]!r}.")
        results = [(0.0, True)] * len(requests)
        questions = [[self._question(prompt, response)] for _, prompt, response in requests]
        for index, estimate in self._estimates(questions, True, disable_tqdm):
            results[index] = estimate.log_likelihood, bool(estimate.is_greedy)
            self.estimates[requests[index][0]] = estimate
            self.cache_hook.add_partial("loglikelihood", requests[index][0], results[index])
        return results

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts; long ones are cut by lm-eval into windows as wide as the context."""
        results = [0.0] * len(requests)
        windows = (self._windows(request.args[0]) for request in requests)
        questions = [[self._question(prompt, response) for prompt, response in text] for text in windows]
        for index, estimate in self._estimates(questions, False, disable_tqdm):
            results[index] = estimate.log_likelihood
            self.estimates[requests[index].args] = estimate
            self.cache_hook.add_partial("loglikelihood_rolling", requests[index].args, results[index])
        return results

    def _windows(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        ids = self.tok_encode(text, add_special_tokens=False)
        # the canvas holds the last token too, which autoregressive models only predict
        return map(make_disjoint_window, get_rolling_token_windows(ids, self.prefix_token_id, self.max_length - 1, 1))

    def _question(self, prompt: list[int], response: list[int]) -> Question:
        return Question(tuple(self.shorten(prompt, len(response))), tuple(response))

    def _estimates(
        self, asked: Sequence[Sequence[Question]], greedy: bool, disable_tqdm: bool
    ) -> Iterator[tuple[int, Estimate]]:
        """Yield the sum over the questions of each request, as soon as all are estimated."""
        askers: dict[Question, set[int]] = defaultdict(set)
        for index, questions in enumerate(asked):
            for question in questions:
                askers[question].add(index)
        missing = [set(questions) for questions in asked]
        known: dict[Question, Estimate] = {}
        with tqdm(total=len(askers), desc="Estimating", disable=disable_tqdm or self.rank > 0) as progress:
            for question, estimate in self._estimator.estimates(askers, greedy):
                known[question] = estimate
                for index in askers[question]:
                    missing[index].remove(question)
                    if not missing[index]:
                        answer = total([known[part] for part in asked[index]])
                        self.count(likelihoods=1, likelihood_variance=answer.standard_error**2)
                        yield index, answer
                progress.update()


def _check_arguments(options: Mapping[str, Any]) -> None:
    """Raise ValueError for an argument that nothing would read."""
    known = ["pretrained", *(ConvDLM.__init__.__kwdefaults__ or ()), *option_names()]
    for name in options.keys() - set(known):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else "."
        raise ValueError(f"`{name}` is no argument of `--model {NAME}`{hint} Known: {', '.join(known)}.")


def _count(name: str, value: Any, optional: bool = False, called: str | None = None) -> Any:
    """A whole number in the range of its kind, which may come as text. Raises ValueError."""
    if value is None and optional:
        return None
    number = _whole(called or name, value)
    COUNTS[name].check(called or name, number)
    return number


def _whole(name: str, value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    value = as_whole(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"`{name}`={value!r} must be a whole number.")
    return value


def _context_length(config: Any, max_length: int | None) -> int:
    limit = longest_context(config) or max_length
    if limit is None or (max_length is not None and not 1 < max_length <= limit):
        raise ValueError(f"`max_length`={max_length}, and the model's config says {limit}; pass what it can take.")
    return limit if max_length is None else max_length


def main() -> None:
    """`lm_eval`, with this model, and with the tasks here unless other ones are included."""
    from lm_eval.__main__ import cli_evaluate

    words = sys.argv[1:]
    runs = words[:1] == ["run"] or (words and words[0].startswith("-"))
    if runs and not any(word.split("=")[0] == "--include_path" for word in words):
        sys.argv += ["--include_path", str(TASKS)]
    cli_evaluate()


if NAME not in model_registry:  # releases after 0.4.13 may know it by its entry point
    # by name: when this file is run as a script, the module of this name is a different object
    model_registry.register(NAME, target="conv_dlm.evaluation.harness:ConvDLM")

if __name__ == "__main__":
    main()
