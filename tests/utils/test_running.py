"""How commands end: an exit status, and one line on standard error."""

import sys

import pytest
from huggingface_hub.errors import HfHubHTTPError

from conv_dlm.utils import interrupts
from conv_dlm.utils.running import NETWORK, exit_code_of


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("wrong\nat the second line"), 2, "it: error: wrong"),
        (NETWORK("Name or service not known"), 2, "it: error: the network: Name or service not known"),
        (MemoryError(), 2, "it: error: MemoryError"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_line(capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str) -> None:
    def command() -> int:
        raise error

    assert exit_code_of("it", command) == code
    assert capsys.readouterr().err == f"{said}\n"


def test_what_the_hub_answers_is_of_the_network() -> None:
    assert issubclass(HfHubHTTPError, NETWORK) and not issubclass(ValueError, NETWORK)


def test_ctrl_c_while_a_module_is_imported(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        interrupts.end_quietly(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert end.value.code == 130 and capsys.readouterr().err == "interrupted\n"
    interrupts.end_quietly(ValueError, ValueError("deep inside"), None)
    assert capsys.readouterr().err == "ValueError: deep inside\n"
    assert sys.excepthook is not interrupts.end_quietly  # for `python -m` alone
