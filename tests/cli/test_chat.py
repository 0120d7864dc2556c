"""`chat` talks, in a pipe and in a terminal: streaming, Ctrl-C, several turns, saving."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Run

pytest.importorskip("torch", reason="generation needs torch")
pytest.importorskip("jinja2", reason="chat templates need jinja2")
pty = pytest.importorskip("pty", reason="terminals are a thing of Unix")
fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")


def test_each_line_of_a_pipe_is_a_message(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    said = f"Hello\nAnd you?\n/save {path}\n/history\n"
    done = run("chat", "--max-new-tokens", "6", "--temperature", "0", input=said.encode())
    messages = json.loads(path.read_text())["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant"]
    assert [m["content"] for m in messages[::2]] == ["Hello", "And you?"]
    answers = done.stdout.decode()
    for message in messages[1::2]:
        assert message["content"] in answers
    assert "user: And you?" in answers


def test_missing_jinja_is_named() -> None:
    code = """
import sys
sys.modules["jinja2"] = None
from llamatok.cli import main
sys.exit(main(["chat", "--max-new-tokens", "1"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"Hello\n", capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert done.stderr.decode().endswith("chat templates need Jinja\nhint: pip install 'llamatok[chat]'\n")


def test_a_saved_conversation_goes_on(run: Run, tmp_path: Path) -> None:
    path, after = tmp_path / "talk.json", tmp_path / "after.json"
    options = ("chat", "--max-new-tokens", "4", "--temperature", "0")
    run(*options, "--system", "Be brief.", input=f"One\n/save {path}\n".encode())
    run(*options, "--history", str(path), input=f"Two\n/save {after}\n".encode())
    messages = json.loads(after.read_text())["messages"]
    assert [m["content"] for m in messages if m["role"] != "assistant"] == ["Be brief.", "One", "Two"]


def test_reset_and_undo(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    said = f"One\n/reset\nTwo\nThree\n/undo\n/save {path}\n/exit\nnever\n"
    run("chat", "--max-new-tokens", "3", "--temperature", "0", "--system", "S", input=said.encode())
    messages = json.loads(path.read_text())["messages"]
    assert [m["content"] for m in messages if m["role"] != "assistant"] == ["S", "Two"]


@pytest.mark.parametrize(
    ("said", "status", "message"),
    [
        ("/nonsense\n", 2, "there is no command `/nonsense`"),
        ("/save\n", 2, "name a file: /save FILE"),
        ("/load no-such-file\n", 1, "`no-such-file`: No such file or directory"),
        ("/save no-such-folder/x.json\n", 1, "No such file or directory"),
    ],
)
def test_a_bad_command_in_a_pipe_ends_the_work(run: Run, said: str, status: int, message: str) -> None:
    done = run("chat", input=said.encode(), status=status)
    assert message in done.stderr.decode()


@pytest.mark.parametrize("content", ["{", '{"messages": 3}', '[{"role": "user"}]'])
def test_a_bad_history_is_told(run: Run, tmp_path: Path, content: str) -> None:
    path = tmp_path / "talk.json"
    path.write_text(content)
    done = run("chat", "--history", str(path), status=1)
    assert f"`{path}`: " in done.stderr.decode()


def _take_terminal() -> None:
    """In the child: its terminal sends Ctrl-C to it, even where the tests run with that ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


#: `llamatok chat` whose first answer waits for ever after a few tokens, within a step of the model, however
#: fast the machine is. Later answers are ordinary ones, and none ends by itself.
WAITING_CHAT = """
import signal, sys
import llamatok.cli
from llamatok.models import LlamaForCausalLM

ordinary = LlamaForCausalLM.forward
answers = steps = 0

def forward(model, *args, **kwargs):
    global answers, steps
    answers += kwargs["input_ids"].shape[1] > 1
    steps += 1
    while answers == 1 and steps > 5:
        signal.pause()
    output = ordinary(model, *args, **kwargs)
    output.logits[..., model.config.eos_token_id] = float("-inf")
    return output

LlamaForCausalLM.forward = forward
sys.exit(llamatok.cli.main(["chat", *sys.argv[1:]]))
"""


class Terminal:
    """A command in a pseudo-terminal, driven by what is seen on it.

    Everything must be done within `seconds` of its start.
    """

    def __init__(self, *command: str, seconds: float = 120) -> None:
        controller, terminal = pty.openpty()
        self._controller = controller
        self._end = time.monotonic() + seconds
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=_take_terminal,
            env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
        )
        os.close(terminal)
        self._seen = ""
        self._taken = 0

    def send(self, text: str) -> None:
        os.write(self._controller, text.encode())

    def wait_for(self, *texts: str) -> str:
        """Reads on until the texts were seen one after the other; gives what came, up to the last."""
        begin = self._taken
        for text in texts:
            while (place := self._seen.find(text, self._taken)) < 0:
                self._read(f"{text!r} did not come")
            self._taken = place + len(text)
        return self._seen[begin : self._taken]

    def send_until(self, keys: str, text: str) -> None:
        """Sends keys, again and again, until a text is seen: for those that may come too early to count."""
        begin = self._taken
        while text not in self._seen[begin:]:
            self.send(keys)
            self._read(f"{text!r} did not come", at_most=1)
        self.wait_for(text)

    def wait_for_any(self) -> str:
        """Reads on until something new was seen, and gives it."""
        while len(self._seen) == self._taken:
            self._read("nothing came")
        begin, self._taken = self._taken, len(self._seen)
        return self._seen[begin:]

    def _read(self, failure: str, at_most: float | None = None) -> None:
        left = self._end - time.monotonic()
        assert left > 0, f"{failure} in time; seen: {self._seen!r}"
        if select.select([self._controller], [], [], left if at_most is None else at_most)[0]:
            try:
                self._seen += os.read(self._controller, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                pytest.fail(f"{failure}, the command ended; seen: {self._seen!r}")

    def leave(self, keys: str) -> int:
        """Sends what ends the command, and gives its exit status."""
        self.send(keys)
        return self.process.wait(max(1, self._end - time.monotonic()))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._controller)


def test_ctrl_c_in_an_answer_keeps_the_conversation(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    terminal = Terminal("-c", WAITING_CHAT, "--temperature", "0", "--max-new-tokens", "8")
    try:
        terminal.wait_for("> ")
        terminal.send("Tell me a long story\n")
        terminal.wait_for("story\r\n")
        # An answer that begins with a letter, as those of the demo checkpoint do.
        while not (begun := terminal.wait_for_any()).strip():
            pass
        terminal.send("\x03")
        begun += terminal.wait_for("(interrupted)", "> ").split("^C")[0]
        terminal.send("And then?\n")
        answer = terminal.wait_for("then?\r\n", "\r\n> ").split("then?\r\n")[1]
        terminal.send(f"/save {path}\n")
        terminal.wait_for("saved to", "> ")
        terminal.send("/nonsense\n")
        terminal.wait_for("there is no command", "> ")
        assert terminal.leave("\x04") == 0
    finally:
        terminal.close()
    messages = json.loads(path.read_text())["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant"]
    assert [m["content"] for m in messages[::2]] == ["Tell me a long story", "And then?"]
    assert messages[1]["content"] == begun.strip()
    assert messages[3]["content"] == answer.removesuffix("> ").strip().replace("\r\n", "\n")


def test_ctrl_c_at_the_prompt_does_not_leave() -> None:
    terminal = Terminal("-m", "llamatok", "chat", "--max-new-tokens", "3")
    try:
        terminal.wait_for("> ")
        # The prompt shows a moment before readline heeds signals.
        terminal.send_until("\x03", "(Ctrl-D leaves)")
        terminal.wait_for("> ")
        assert terminal.leave("/exit\n") == 0
    finally:
        terminal.close()
