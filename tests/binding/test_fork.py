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
