"""PEFT's `adapter_names`, one for each row of the batch, in forwards of some of the rows.

PEFT hands the names of the whole batch to each of its layers, by a hook. Here rows leave the forwards, and guidance has
each of them twice; so a hook behind PEFT's replaces the names by those of the forward's rows.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from conv_dlm.generation.errors import SettingError


class RowAdapters:
    """The adapters of a batch's rows.

    modules: PEFT's layers.
    names: of each row.
    """

    def __init__(self, modules: Sequence[nn.Module], names: Sequence[str]) -> None:
        self.modules, self.names = modules, list(names)
        self._now = self.names

    @classmethod
    def of(cls, model: nn.Module, rows: int, each: int = 1) -> "RowAdapters | None":
        """Those that `PeftModel.generate(adapter_names=...)` has set, for so many `rows`, of which `each` prompt has
        several. None without any."""
        found = [(module, names) for module in model.modules() if (names := _names_of(module)) is not None]
        if not found:
            return None
        names = found[0][1]
        if len(names) * each != rows:
            raise SettingError(
                "adapter_names", f"has {len(names)} names for {rows // each} rows", "give one for each prompt"
            )
        return cls([module for module, _ in found], [name for name in names for _ in range(each)])

    def choose(self, rows: Sequence[int] | None, copies: int) -> None:
        """The next forward is of these rows (None: all), `copies` times one after the other."""
        chosen = self.names if rows is None else [self.names[row] for row in rows]
        self._now = chosen * copies

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """While this lasts, PEFT's layers get the names of the rows that were chosen last."""
        hooks = [module.register_forward_pre_hook(self._rename, with_kwargs=True) for module in self.modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _rename(self, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"adapter_names": self._now}


@contextlib.contextmanager
def left_clean(model: nn.Module) -> Iterator[None]:
    """Take PEFT's hooks off after an error: it does so after a whole call alone, and the next one would have them."""
    try:
        yield
    except BaseException:
        for module in model.modules():
            for key, hook in list(module._forward_pre_hooks.items()):
                if isinstance(hook, functools.partial) and "adapter_names" in hook.keywords:
                    del module._forward_pre_hooks[key]
                    module._forward_pre_hooks_with_kwargs.pop(key, None)
        raise


def _names_of(module: nn.Module) -> Sequence[str] | None:
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, functools.partial) and "adapter_names" in hook.keywords:
            names: Sequence[str] = hook.keywords["adapter_names"]
            return names
    return None
