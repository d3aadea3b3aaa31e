"""Training configs that are pickled without the Hub's token."""

import copy
from typing import Any, Self


class TokenFree:
    """Base of a config whose `training_args.bin`, which may be pushed, has no token; copies in memory keep it."""

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled."""
        return self.__dict__ | {"hub_token": None}

    def __copy__(self) -> Self:
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new
