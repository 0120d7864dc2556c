"""`llamatok chat`: a conversation in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from llamatok.cli import generating, options
from llamatok.cli.errors import CommandError, InputError, UsageError

EXAMPLES = """\
  llamatok chat
  llamatok chat --model ./Llama-2-7b-chat --system "Answer in one sentence." --weights fp16-packed
  printf 'Hello\\nAnd you?\\n' | llamatok chat --temperature 0

Within it: /help, /reset, /system TEXT, /history, /undo, /save FILE, /load FILE, /exit. Ctrl-C ends an answer
and keeps what was said; Ctrl-D leaves. Where standard input is no terminal, each line is a message.
"""

HELP = """\
/reset         begin anew
/system TEXT   begin anew with this system prompt
/history       show the conversation
/undo          take back the last message and its answer
/save FILE     write the conversation as JSON
/load FILE     go on with a saved conversation
/exit          leave (also Ctrl-D)
"""

DEFAULT_NEW_TOKENS = 256

Message = dict[str, str]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = options.add_command(commands, "chat", "Talk with a model.", EXAMPLES)
    generating.add_options(parser)
    parser.add_argument("--system", metavar="TEXT", help="the system prompt")
    parser.add_argument("--history", metavar="FILE", help="go on with a conversation that /save wrote")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    settings = generating.settings(arguments)
    messages = _read_history(arguments.history) if arguments.history is not None else []
    if arguments.system is not None:
        messages = [_message("system", arguments.system)] + [m for m in messages if m["role"] != "system"]
    model, tokenizer = generating.load(arguments)
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            "the tokenizer has no chat template",
            "`llamatok generate` goes on with plain text; a chat template stands in chat_template.jinja or"
            " tokenizer_config.json",
        )
    if model.generation_config.max_new_tokens is None:
        settings.setdefault("max_new_tokens", DEFAULT_NEW_TOKENS)
    talk = Conversation(model, tokenizer, settings, generating.generator(arguments.seed, model), messages)
    interactive = sys.stdin.isatty()
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (gives input() line editing and a history)
        print("Type a message, or /help. Ctrl-D leaves.", file=sys.stderr)
    interrupted = False
    while True:
        # Ctrl-C may come at any moment, also twice: it ends what is being done, never the conversation.
        try:
            if interrupted:
                interrupted = False
                print("\n(interrupted)", file=sys.stderr)
            if not _turn(talk, interactive):
                return 0
        except KeyboardInterrupt:
            if not interactive:
                raise
            interrupted = True


def _turn(talk: Conversation, interactive: bool) -> bool:
    """Reads a line and does what it says; False leaves."""
    line = _read_line(interactive)
    if line is None:
        return False
    if not line.strip():
        return True
    if line.startswith("/"):
        return _command(talk, line.strip(), interactive)
    try:
        talk.say(line)
    except (CommandError, OSError) as error:
        if not interactive:
            raise
        _show(error)
    return True


def _read_line(interactive: bool) -> str | None:
    """A message, or None at the end."""
    if not interactive:
        raw = sys.stdin.buffer.readline()
        try:
            return raw.decode().rstrip("\r\n") if raw else None
        except UnicodeDecodeError:
            raise InputError("standard input: a line is no valid UTF-8") from None
    try:
        return input("> ")
    except EOFError:
        print(file=sys.stderr)
        return None
    except KeyboardInterrupt:
        print("\n(Ctrl-D leaves)", file=sys.stderr)
        return ""


class Conversation:
    """Messages so far, and how the model answers.

    Args:
        messages: each with `role` (system, user, assistant) and `content`.
    """

    def __init__(
        self, model: Any, tokenizer: Any, settings: dict[str, Any], generator: Any, messages: list[Message]
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.generator = generator
        self.messages = messages

    def say(self, text: str) -> None:
        """Takes a message and prints the answer as it comes.

        An interrupt leaves the message with the answer so far, or neither where there is none yet.

        Raises:
            KeyboardInterrupt: Ctrl-C ended the answer.
            UsageError: the message or the settings do not fit the model.
        """
        from llamatok.generation import stream

        before = len(self.messages)
        self.messages.append(_message("user", text))
        answer = _message("assistant", "")
        try:
            ids = self._prompt()
            self.messages.append(answer)
            texts = stream(
                self.model,
                self.tokenizer,
                [ids],
                generator=self.generator,
                **self.settings,
            )
            for part in texts:
                if not answer["content"]:
                    part = part.lstrip()
                answer["content"] += part
                sys.stdout.write(part)
                sys.stdout.flush()
        except KeyboardInterrupt:
            if not answer["content"]:
                del self.messages[before:]
            raise
        except Exception as error:
            del self.messages[before:]
            if isinstance(error, ValueError):
                raise UsageError(str(error)) from None
            raise
        finally:
            answer["content"] = answer["content"].strip()
        sys.stdout.write("\n")
        sys.stdout.flush()

    def _prompt(self) -> list[int]:
        """The ids of the conversation; its oldest turns are left out where the context is too short."""
        context = getattr(self.model.config, "max_position_embeddings", None)
        new = self.settings.get("max_new_tokens") or self.model.generation_config.max_new_tokens or 0
        room = None if context is None else max(context - new, context // 2)
        system = [m for m in self.messages if m["role"] == "system"]
        turns = [m for m in self.messages if m["role"] != "system"]
        while True:
            ids = self._rendered(system + turns)
            if room is None or len(ids) <= room or len(turns) <= 2:
                break
            turns = turns[2:]
        if len(system) + len(turns) < len(self.messages):
            print("(the oldest messages no longer fit, the model does not see them)", file=sys.stderr)
        return ids

    def _rendered(self, messages: list[Message]) -> list[int]:
        try:
            found = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True
            )
        except ImportError as error:
            raise CommandError(
                str(error).partition(": pip install")[0], "pip install 'llamatok[chat]'"
            ) from None
        except Exception as error:
            raise UsageError(f"the chat template refuses the conversation: {error}") from None
        return list(found["input_ids"])

    def reset(self, system: str | None = None) -> None:
        """Begins anew, with the same system prompt unless another one is given."""
        if system is not None:
            self.messages = [_message("system", system)]
        else:
            self.messages = [m for m in self.messages if m["role"] == "system"]

    def undo(self) -> None:
        """Takes the last message and its answer back."""
        if self.messages and self.messages[-1]["role"] == "assistant":
            self.messages.pop()
        if self.messages and self.messages[-1]["role"] == "user":
            self.messages.pop()


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _command(talk: Conversation, line: str, interactive: bool) -> bool:
    """Runs `/name argument`; False leaves."""
    name, _, argument = line.partition(" ")
    argument = argument.strip()
    try:
        if name in ("/exit", "/quit"):
            return False
        if name == "/help":
            sys.stderr.write(HELP)
        elif name == "/reset":
            talk.reset()
        elif name == "/system":
            talk.reset(argument)
        elif name == "/undo":
            talk.undo()
        elif name == "/history":
            for message in talk.messages:
                print(f"{message['role']}: {message['content']}")
        elif name == "/save":
            print(f"saved to `{_save_history(argument, talk.messages)}`", file=sys.stderr)
        elif name == "/load":
            talk.messages = _read_history(argument)
        else:
            raise UsageError(f"there is no command `{name}`", "/help lists them")
    except (CommandError, OSError) as error:
        if not interactive:
            raise
        _show(error)
    return True


def _show(error: Exception) -> None:
    """An error after which the conversation goes on."""
    print(f"error: {error}", *getattr(error, "hints", ()), sep="\nhint: ", file=sys.stderr)


def _save_history(name: str, messages: list[Message]) -> Path:
    if not name:
        raise UsageError("name a file: /save FILE")
    path = Path(name).expanduser()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        try:
            json.dump({"messages": messages}, file, ensure_ascii=False, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    return path


def _read_history(name: str) -> list[Message]:
    if not name:
        raise UsageError("name a file: /load FILE")
    try:
        content = json.loads(Path(name).expanduser().read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"`{name}`: no valid JSON: {error}") from None
    messages = content.get("messages") if isinstance(content, dict) else content
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in messages
    ):
        raise InputError(f"`{name}`: expected a list of messages, each with `role` and `content`")
    return [_message(m["role"], m["content"]) for m in messages]
