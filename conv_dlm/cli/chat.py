"""Talk with a model and watch every answer being denoised.

Ctrl-C stops an answer; at the prompt, Ctrl-C and Ctrl-D leave. A message of several lines stands between two lines of
\"\"\", or has a \\ at the end of each line but the last. Commands at the prompt:
  /set OPTIONS   change how answers are denoised, e.g. /set --decode-type topk --steps 32
  /reset         return to the initial options
  /regenerate    answer the last message anew
  /undo          take back the last message and its answer
  /save FILE     keep the conversation, as JSON
  /load FILE     go on with a conversation that was kept
  /clear         forget what was said
  /exit          leave
A message that begins with / is written with a blank before it.
"""

import argparse
import contextlib
import itertools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from conv_dlm.cli.notes import note
from conv_dlm.cli.options import add_generation_options, add_model_options, generation_options
from conv_dlm.cli.parser import Parser
from conv_dlm.utils.exit_codes import INTERRUPTED
from conv_dlm.utils.files import read_text, write_json
from conv_dlm.utils.text import check_bytes, from_json

if TYPE_CHECKING:  # imports torch and Transformers
    from conv_dlm.answering.prompting import Message
    from conv_dlm.cli.session import Completion, Session

SUMMARY = "talk with a model"
USAGE = "conv-dlm chat [options]"
FENCE = '"""'
EXAMPLES = """examples:
  conv-dlm chat
  conv-dlm chat --model GSAI-ML/LLaDA-8B-Instruct --system "Answer briefly." --max-new-tokens 256
"""


def add_arguments(parser: Parser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--memory",
        action=argparse.BooleanOptionalAction,
        help="whether an answer takes the earlier turns into account (default: yes, but not for the embedded model, "
        "which knows single questions only)",
    )
    add_model_options(parser)
    add_generation_options(parser)


def run(args: argparse.Namespace) -> int:
    options = generation_options(args)
    if args.memory and args.raw:
        raise ValueError("`--memory` needs the chat template; drop it or `--raw`.")
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # line editing and history for input()

    from conv_dlm.cli.session import Session

    session = Session(args, options)
    memory = args.memory if args.memory is not None else args.model is not None
    chat = Chat(session, args, memory and session.prompter.templated)
    note(f"{session.name}; /help for commands, Ctrl-D to leave")
    try:
        while chat.take_next():
            pass
    except KeyboardInterrupt:
        print()
        return INTERRUPTED
    return 0


class Chat:
    """The state of a conversation. Whatever goes wrong with an answer, what was said before stays.

    Args:
        session (`Session`): who answers.
        args (`argparse.Namespace`): the options in force; `/set` changes them.
        memory (`bool`): whether earlier turns are part of the prompt.
    """

    def __init__(self, session: "Session", args: argparse.Namespace, memory: bool) -> None:
        from conv_dlm.generation.past import Past

        self.session, self.args, self.memory = session, args, memory
        self.past = Past()
        self.first_args = args
        self.history: list[Message] = []
        self.turns = 0
        self.last_asked: str | None = None

    def take_next(self) -> bool:
        """Read a message or a command, and obey or answer it; whether to go on."""
        try:
            text = _read_message()
        except ValueError as error:
            note(f"error: {error}")
            return True
        return text is not None and self.take(text)

    def take(self, text: str) -> bool:
        """Obey or answer a text; whether to go on."""
        command, _, rest = text.partition(" ")
        rest = rest.strip()
        if command in ("/exit", "/quit"):
            return False
        if command == "/clear":
            self.history.clear()
        elif command == "/set":
            self._set(rest, self.args)
        elif command == "/reset":
            self._set("", self.first_args)
        elif command == "/regenerate":
            self._regenerate()
        elif command == "/undo":
            self._undo()
        elif command in ("/save", "/load"):
            self._with_file(self._save if command == "/save" else self._load, command, rest)
        elif command.startswith("/"):
            if command != "/help":
                note(f"{command} is no command; a message that begins with / is written with a blank before it")
            note(str(__doc__).partition("\n\n")[2].rstrip())
        elif text.strip():
            self._answer(text.strip())
        return True

    def _set(self, words: str, base: argparse.Namespace) -> None:
        """Denoise as `base` and the options in `words` say; after a mistake as before."""
        parser = Parser(prog="/set", add_help=False)
        add_generation_options(parser)
        try:
            args = parser.parse_args(shlex.split(words), argparse.Namespace(**vars(base)))
            options = generation_options(args)
            self.session.configure(options)
            self.args = args
            note(", ".join(f"{name}={value}" for name, value in options.items()) or "the model's own settings")
        except SystemExit:  # the parser has said what is wrong
            pass
        except ValueError as error:
            note(f"/set: error: {error}")

    def _answer(self, text: str) -> None:
        from conv_dlm.cli.session import summary

        self.last_asked = text
        try:
            answer = self._generate(text)
        except KeyboardInterrupt:
            note("stopped")
            return
        except (ValueError, RuntimeError) as error:  # out of memory among them
            note(f"error: {str(error).strip() or type(error).__name__}")
            return
        self.history += [{"role": "user", "content": text}, {"role": "assistant", "content": answer.text}]
        note(summary([answer]))

    def _generate(self, text: str) -> "Completion":
        """Answer with as much of the history as the model's context holds."""
        from conv_dlm.generation.errors import SettingError

        self.turns += 1
        remembered = self.history if self.memory else []
        for start in range(0, len(remembered) + 1, 2):
            try:
                prompt = self.session.prompt(text, remembered[start:])
                if start:
                    turns = (len(remembered) - start) // 2
                    note(f"the context is full: the answer takes the last {turns} turns into account")
                return self.session.answer([prompt], [self.turns], self.session.streamer(), self.past)[0]
            except SettingError as error:
                if error.field != "max_new_tokens" or start >= len(remembered):
                    raise
        raise AssertionError("the last try returns or raises")

    def _regenerate(self) -> None:
        """Ask the last message again, answered or not."""
        if self.last_asked is None:
            note("/regenerate: nothing was asked yet")
            return
        before = self.history
        if before[-2:] and before[-2]["content"] == self.last_asked:
            self.history = before[:-2]
        count = len(self.history)
        self._answer(self.last_asked)
        if len(self.history) == count:  # no new answer: the old one stays
            self.history = before

    def _undo(self) -> None:
        if not self.history:
            note("/undo: nothing was said")
            return
        asked = self.history[-2]["content"]
        del self.history[-2:]
        self.last_asked = self.history[-2]["content"] if self.history else None
        note(f"taken back: {asked.splitlines()[0]}")

    def _with_file(self, do: Callable[[Path], None], command: str, name: str) -> None:
        if not name:
            note(f"{command}: error: name a file")
            return
        try:
            do(Path(name).expanduser())
        except (ValueError, OSError) as error:
            note(f"{command}: error: {error}")

    def _save(self, path: Path) -> None:
        """Raises ValueError for a file that holds something else."""
        if path.exists() and (not path.is_file() or path.stat().st_size):
            try:
                _conversation(path)
            except ValueError as error:
                raise ValueError(f"{path} is there already, and no conversation; name another file.") from error
        write_json(path, {"model": self.session.name, "messages": self.history})
        note(f"{len(self.history) // 2} turns are in {path}")

    def _load(self, path: Path) -> None:
        self.history = _conversation(path)
        self.last_asked = self.history[-2]["content"] if self.history else None
        note(f"{len(self.history) // 2} turns from {path}")
        if not self.memory:
            note("answers don't take them into account: the chat has no memory (--memory)")


def _conversation(path: Path) -> "list[Message]":
    """The messages of a file that `/save` has written. Raises ValueError, OSError."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file.")
    try:
        given = from_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    messages = given.get("messages") if isinstance(given, dict) else given
    if not isinstance(messages, list) or len(messages) % 2 or not all(
        isinstance(message, dict) and message.get("role") == role and isinstance(message.get("content"), str)
        for message, role in zip(messages, itertools.cycle(("user", "assistant")))
    ):
        raise ValueError(f"{path} holds no conversation: `messages`, of the user and of the assistant in turn.")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _read_message() -> str | None:
    """What the user says next, of one line or of several; `None` at the end of input. Raises ValueError for bytes that
    are no text."""
    line = _read_line("> ")
    if line is None:
        return None
    lines = []
    if line.strip() == FENCE:
        while (line := _read_line(". ")) is not None and line.strip() != FENCE:
            lines.append(line)
        if lines and lines[0].startswith("/"):
            lines[0] = f" {lines[0]}"  # no command
    else:
        while line is not None and line.endswith("\\"):
            lines.append(line[:-1])
            line = _read_line(". ")
        lines += [] if line is None else [line]
    return check_bytes("The message", "\n".join(lines))


def _read_line(sign: str) -> str | None:
    """A line from the user, `None` at the end of input. Without a prompt sign where nobody would see it."""
    try:
        return input(sign if sys.stdin.isatty() and sys.stdout.isatty() else "")
    except EOFError:
        if sys.stdin.isatty():
            print()
        return None
