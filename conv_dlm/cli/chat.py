"""Talk with a model and watch every answer being denoised.

Ctrl-C stops an answer; at the prompt, Ctrl-C and Ctrl-D leave. Commands at the prompt:
  /set OPTIONS   change how answers are denoised, e.g. /set --decode-type topk --steps 32
  /reset         return to the initial options
  /clear         forget what was said
  /exit          leave
"""

import argparse
import contextlib
import shlex
import sys
from typing import TYPE_CHECKING

from conv_dlm.cli.exit_codes import INTERRUPTED
from conv_dlm.cli.notes import note
from conv_dlm.cli.options import add_generation_options, add_model_options, generation_options
from conv_dlm.cli.parser import Parser

if TYPE_CHECKING:  # imports torch and Transformers
    from conv_dlm.answering.prompting import Message
    from conv_dlm.cli.session import Completion, Session

SUMMARY = "talk with a model"
USAGE = "conv-dlm chat [options]"
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
        while (line := _read_line()) is not None and chat.take(line.strip()):
            pass
    except KeyboardInterrupt:
        print()
        return INTERRUPTED
    return 0


class Chat:
    """The state of a conversation.

    Args:
        session (`Session`): who answers.
        args (`argparse.Namespace`): the options in force; `/set` changes them.
        memory (`bool`): whether earlier turns are part of the prompt.
    """

    def __init__(self, session: "Session", args: argparse.Namespace, memory: bool) -> None:
        self.session, self.args, self.memory = session, args, memory
        self.first_args = args
        self.history: list[Message] = []
        self.turns = 0

    def take(self, line: str) -> bool:
        """Obey or answer a line; whether to go on."""
        command, _, rest = line.partition(" ")
        if command in ("/exit", "/quit"):
            return False
        if command == "/clear":
            self.history.clear()
        elif command == "/set":
            self._set(rest, self.args)
        elif command == "/reset":
            self._set("", self.first_args)
        elif command.startswith("/"):
            note(str(__doc__).partition("\n\n")[2].rstrip())
        elif line:
            self._answer(line)
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

        try:
            answer = self._generate(text)
        except KeyboardInterrupt:
            note("stopped")
            return
        except ValueError as error:
            note(f"error: {error}")
            return
        if self.memory:
            self.history += [{"role": "user", "content": text}, {"role": "assistant", "content": answer.text}]
        note(summary([answer]))

    def _generate(self, text: str) -> "Completion":
        """Answer with as much of the history as the model's context holds."""
        while True:
            try:
                prompt = self.session.prompt(text, self.history)
                self.turns += 1
                return self.session.answer([prompt], [self.turns], self.session.streamer())[0]
            except ValueError:
                if not self.history:
                    raise
                del self.history[:2]
                note("the context is full: the oldest turn is forgotten")


def _read_line() -> str | None:
    """A line from the user, `None` at the end of input. Without a prompt sign where nobody would see it."""
    try:
        return input("> " if sys.stdin.isatty() and sys.stdout.isatty() else "")
    except EOFError:
        if sys.stdin.isatty():
            print()
        return None

