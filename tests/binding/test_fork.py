"""Children made by `fork` after the parent has used its threads."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def run(code):
    """In a process of its own: pytest's is full of threads that are not ours."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.stderr == ""
    assert result.returncode == 0
    return result.stdout


def test_a_forked_child_works():
    out = run(
        """
        import os, signal
        from llamatok import Tokenizer
        tokenizer = Tokenizer.default()
        texts = [f"text number {i} " * 50 for i in range(500)]
        expected = tokenizer.encode_batch(texts, num_threads=4)
        for _ in range(5):
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # a deadlock ends by a signal, which the parent sees
                same = tokenizer.encode_batch(texts, num_threads=4) == expected
                same = same and tokenizer.decode_batch(expected, num_threads=4) == texts
                same = same and tokenizer.encode(texts[0]) == expected[0].tolist()
                os._exit(0 if same else 1)
            assert os.waitpid(child, 0)[1] == 0
        assert tokenizer.encode_batch(texts, num_threads=4) == expected
        print("done")
        """
    )
    assert out == "done\n"


def test_a_child_forked_while_threads_work():
    """A lock that another thread holds at the fork stays locked in the child for ever."""
    out = run(
        """
        import os, signal, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, from Python 3.12 on
        from llamatok import Tokenizer
        shared = Tokenizer.default()
        stop = threading.Event()
        def work():
            number = 0
            while not stop.is_set():
                number += 1
                texts = [f"new {number + i} words" * 20 for i in range(400)]
                Tokenizer.default().encode_batch(texts, num_threads=1)
                shared.encode(f"text {number}")
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for round in range(60):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                same = shared.decode(shared.encode("Hello world")) == "Hello world"
                same = same and Tokenizer.default().count("Hello world") == len(shared.encode("Hello world"))
                os._exit(0 if same else 1)
            status = os.waitpid(child, 0)[1]
            if status:
                break
        stop.set()
        for thread in threads:
            thread.join()
        print("status", status)
        """
    )
    assert out == "status 0\n"


def test_a_pool_of_forked_workers():
    out = run(
        """
        import multiprocessing
        from llamatok import Tokenizer
        tokenizer = Tokenizer.default()
        texts = [f"text number {i}" for i in range(200)]
        expected = tokenizer.encode_batch(texts, num_threads=2).to_lists()
        def work(text):
            return tokenizer.encode_batch([text] * 3, num_threads=2)[2].tolist()
        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(3) as pool:
                assert pool.map(work, texts) == expected
            print("done")
        """
    )
    assert out == "done\n"
