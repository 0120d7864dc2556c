"""One tokenizer in many threads: the same results, and other threads get to run."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

TEXTS = [f"Text number {i}: naïve café 你好 {'word ' * (i % 40)}" for i in range(200)]


def test_many_threads_one_tokenizer(default_tokenizer):
    expected = [default_tokenizer.encode(text) for text in TEXTS]

    def work(seed):
        for i in range(3):
            assert (
                default_tokenizer.encode_batch(TEXTS, num_threads=1 + (seed + i) % 3).to_lists() == expected
            )
            assert [default_tokenizer.encode(text) for text in TEXTS] == expected
            assert default_tokenizer.decode_batch(expected) == TEXTS
            assert default_tokenizer.count(TEXTS).tolist() == [len(ids) for ids in expected]
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_batches_let_other_threads_run(default_tokenizer):
    """The switch interval is far longer than the test: a call that held the interpreter would never
    let the other thread count."""
    texts = ["The quick brown fox. " * 2000] * 50
    ids = default_tokenizer.encode_batch(texts)
    counted = 0
    stop = threading.Event()
    started = threading.Event()

    def count():
        nonlocal counted
        while not stop.is_set():
            counted += 1
            started.set()
            stop.wait(0.0001)

    def others_run(call):
        before = counted
        for _ in range(200):  # on a busy machine the other thread may be late
            call()
            if counted > before:
                return True
        return False

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    thread = threading.Thread(target=count)
    try:
        thread.start()
        started.wait()
        ran = {
            "encode_batch": others_run(lambda: default_tokenizer.encode_batch(texts)),
            "count": others_run(lambda: default_tokenizer.count(texts)),
            "decode_batch": others_run(lambda: default_tokenizer.decode_batch(ids)),
            "encode": others_run(lambda: default_tokenizer.encode(texts[0])),
            "decode": others_run(lambda: default_tokenizer.decode(ids[0])),
        }
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()
    assert all(ran.values()), ran


def test_one_stream_in_many_threads(default_tokenizer):
    """Pushes from several threads are not mixed up within a push."""
    stream = default_tokenizer.stream_decoder()
    ids = default_tokenizer.encode("word")
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda _: stream.push(ids), range(500)))
    assert ("".join(parts) + stream.finish()).count("word") == 500


def test_a_list_that_changes_meanwhile(default_tokenizer):
    texts = ["The quick brown fox. " * 500 for _ in range(50)]
    expected = default_tokenizer.encode_batch(texts[:1]).to_lists()[0]
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            texts[:] = [text + "" for text in texts]
            texts.append(texts.pop())

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(10):
            assert all(ids == expected for ids in default_tokenizer.encode_batch(texts).to_lists())
    finally:
        stop.set()
        thread.join()
