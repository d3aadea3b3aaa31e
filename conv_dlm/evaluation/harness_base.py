"""What lm-evaluation-harness needs from any model with a tokenizer: tokens, chat template, rank.

lm-eval distributes the documents over the ranks, pads their requests to the same number, and gathers the results at the
end.
"""

import logging
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix
from lm_eval.utils import warning_once
from torch import Tensor

from conv_dlm.answering.prompting import as_text, tokens_of
from conv_dlm.evaluation.processes import Processes

NAME = "conv_dlm"  # of the model in lm-eval
logger = logging.getLogger(f"lm_eval.{NAME}")  # below lm-eval's logger, which has the handler


class BaseLM(TemplateLM):
    """Tokens, processes and cost counters.

    Args:
        device (`str`, *optional*): the user's choice; `self.device` is the device of this process.

    Raises:
        ValueError: Accelerate has given this process a device of another kind.
    """

    backend = "causal"  # for lm-eval's way of splitting tokens into prompt and response
    tokenizer: Any
    max_length: int
    names_as_text: Collection[str] = ()  # of special tokens that mean nothing in a text, such as the mask

    def __init__(self, device: str | None) -> None:
        super().__init__()
        self._device: Any = device
        self._counts: list[dict[str, float]] = [{}]  # of this process, and at the end of all
        processes = Processes.from_environment()
        if processes.count > 1:
            cpu = processes.use_cpu or not torch.accelerator.is_available()
            state = PartialState(cpu=cpu, timeout=timedelta(weeks=52))  # who is done waits for the slowest
            self._rank, self._world_size = state.process_index, state.num_processes
            if device is not None and torch.device(device).type != state.device.type:
                raise ValueError(f"`device`={device!r}, but Accelerate gave this process {state.device}; drop it.")
            self._device = state.device

    # --- processes ---

    def count(self, **amounts: float) -> None:
        """Add to the counters."""
        counts = self._counts[0]
        counts.update({name: counts.get(name, 0) + amount for name, amount in amounts.items()})

    @property
    def counted(self) -> Mapping[str, float]:
        """The counters of this process; after `gather_object`, on its destination, those of all processes."""
        names = sorted({name for counts in self._counts for name in counts})
        return {name: sum(counts.get(name, 0) for counts in self._counts) for name in names}

    def all_gather(self, tensor: Tensor) -> Tensor:
        return gather(tensor) if self.world_size > 1 else tensor

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        if self.world_size == 1:
            return [obj]
        gathered: list[Any] | None = [None] * self.world_size if self.rank == dst else None
        # the only place where all ranks are certain to meet, so the counts come along
        torch.distributed.gather_object((obj, self._counts[0]), gathered, dst=dst)
        if gathered is None:
            return None
        others = [counts for rank, (_, counts) in enumerate(gathered) if rank != self.rank]
        self._counts = [self._counts[0], *others]
        return [theirs for theirs, _ in gathered]

    def barrier(self) -> None:
        if self.world_size > 1:
            PartialState().wait_for_everyone()

    # --- tokens ---

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without context: BOS, or EOS without one."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        ends = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        return str(self.tokenizer.apply_chat_template(chat_history, tokenize=False, **ends))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        if add_special_tokens is None:  # a chat template has written BOS already
            add_special_tokens = not has_bos_prefix(string, self.tokenizer.bos_token)
        return tokens_of(self.tokenizer, as_text(string, self.names_as_text), add_special_tokens)

    def shorten(self, prompt: list[int], response: int) -> list[int]:
        """Cut a prompt at its start so that a response fits. Raises ValueError if there is no room for any prompt."""
        room = self.max_length - response
        if room < 1:
            raise ValueError(
                f"A response of {response} tokens leaves no room for a prompt in a context of {self.max_length}; "
                "lower `max_new_tokens`, or drop the task."
            )
        if len(prompt) > room:
            warning_once(logger, "Prompts too long for the context lose their beginning; the results say how many.")
            self.count(shortened_prompts=1)
        return prompt[-room:]
