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


class Terminal:
    """`llamatok chat` in a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        controller, terminal = pty.openpty()
        self._controller = controller
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llamatok", "chat", *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=_take_terminal,
            env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
        )
        os.close(terminal)
        self.seen = ""

    def send(self, text: str) -> None:
        os.write(self._controller, text.encode())

    def wait_for(self, text: str, after: int = 0, seconds: float = 120) -> None:
        """Reads until `text` stands beyond `after` in what was seen."""
        end = time.monotonic() + seconds
        while text not in self.seen[after:]:
            assert time.monotonic() < end, f"{text!r} did not come; seen: {self.seen!r}"
            if select.select([self._controller], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self._controller, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    assert text in self.seen[after:], self.seen
                    return

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._controller)


def test_ctrl_c_at_the_prompt_does_not_leave() -> None:
    terminal = Terminal("--max-new-tokens", "3")
    try:
        terminal.wait_for("> ")
        time.sleep(1)  # the prompt shows a moment before readline waits for signals
        terminal.send("\x03")
        terminal.wait_for("(Ctrl-D leaves)")
        terminal.send("/exit\n")
        assert terminal.process.wait(60) == 0
    finally:
        terminal.close()
