"""Children made by `fork` after the parent has used its threads."""

import os

import pytest

from support.processes import run, run_file

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


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


def test_workers_forked_before_they_serve():
    """As gunicorn does with preloading: the parent encodes with threads, and forks when they are done."""
    out = run(
        """
        import os, signal
        from concurrent.futures import ThreadPoolExecutor
        from llamatok import LlamaTokenizer, Tokenizer, demo_checkpoint
        tokenizer = Tokenizer.default()
        drop_in = LlamaTokenizer.from_pretrained(demo_checkpoint(), pad_token="<unk>")
        texts = [f"text number {i} naïve 你好 " * 40 for i in range(300)]
        def serve(seed):
            part = texts[seed:] + texts[:seed]
            ids = tokenizer.encode_batch(part, num_threads=2)
            assert tokenizer.decode_batch(ids) == part
            padded = drop_in(part[:20], padding=True, truncation=True, max_length=50, return_tensors="np")
            return ids.to_lists(), padded["input_ids"].tolist()
        def serve_all():
            with ThreadPoolExecutor(4) as pool:
                return list(pool.map(serve, range(0, 40, 10)))
        expected = serve_all()
        children = []
        for _ in range(4):
            child = os.fork()
            if child == 0:
                signal.alarm(120)
                os._exit(0 if serve_all() == expected else 1)
            children.append(child)
        print([os.waitpid(child, 0)[1] for child in children])
        assert serve_all() == expected
        """
    )
    assert out == "[0, 0, 0, 0]\n"


def test_forks_within_and_beside_a_corpus_run():
    """The run's threads are the parent's own; the child starts a run of its own."""
    pytest.importorskip("pyarrow")
    out = run(
        """
        import os, signal, tempfile, threading, warnings
        from pathlib import Path
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, from Python 3.12 on
        from llamatok import Tokenizer
        from llamatok.corpus import tokenize
        folder = Path(tempfile.mkdtemp())
        tokenizer = Tokenizer.default()
        (folder / "in.txt").write_text("".join(f"line {i} of the text\\n" for i in range(200_000)))
        expected = tokenizer.encode("line 7 of the text")
        def work(name):
            tokenize(folder / "in.txt", folder / name, kind="lines", workers=3, progress=False)
            return b"".join(sorted(path.read_bytes() for path in (folder / name).glob("*.bin")))
        parent = threading.Thread(target=work, args=("parent",))
        parent.start()
        statuses = []
        for index in range(5):
            child = os.fork()
            if child == 0:
                signal.alarm(120)
                same = tokenizer.encode_batch(["line 7 of the text"] * 1000, num_threads=3)[999].tolist()
                os._exit(0 if same == expected else 1)
            statuses.append(os.waitpid(child, 0)[1])
        parent.join()
        child = os.fork()
        if child == 0:
            signal.alarm(120)
            os._exit(0 if work("child") else 1)
        statuses.append(os.waitpid(child, 0)[1])
        one, two = (sorted((folder / name).glob("*.bin")) for name in ("parent", "child"))
        one, two = ([path.read_bytes() for path in paths] for paths in (one, two))
        print(statuses, one == two)
        """
    )
    assert out == "[0, 0, 0, 0, 0, 0] True\n"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_start_methods(tmp_path, method):
    """A tokenizer in a process of each kind: inherited or pickled, used before and after."""
    out = run_file(
        tmp_path,
        f"""
        import multiprocessing, warnings
        from llamatok import LlamaTokenizer, Tokenizer, demo_checkpoint

        TEXTS = [f"text number {{i}} naïve 你好 " * 5 for i in range(200)]

        def work(tokenizer, drop_in, seed):
            part = TEXTS[seed:] + TEXTS[:seed]
            return tokenizer.encode_batch(part, num_threads=2).to_lists(), drop_in(part)["input_ids"]

        def main():
            tokenizer = Tokenizer.default()
            drop_in = LlamaTokenizer.from_pretrained(demo_checkpoint())
            drop_in.add_tokens(["text number"])
            expected = [work(tokenizer, drop_in, seed) for seed in (0, 50)]
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                arguments = [(tokenizer, drop_in, seed) for seed in (0, 50)]
                assert pool.starmap(work, arguments) == expected
            print("done")

        if __name__ == "__main__":
            warnings.simplefilter("ignore", DeprecationWarning)
            main()
        """,
    )
    assert out == "done\n"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_data_loader_workers(tmp_path, method):
    """A dataset that tokenizes and a collator that pads, in torch's workers."""
    pytest.importorskip("torch")
    out = run_file(
        tmp_path,
        f"""
        import warnings
        import torch
        from llamatok import LlamaTokenizer, demo_checkpoint
        from torch.utils.data import DataLoader, Dataset

        class Texts(Dataset):
            def __init__(self, tokenizer):
                self.tokenizer = tokenizer
            def __len__(self):
                return 64
            def __getitem__(self, index):
                return self.tokenizer(f"text number {{index}} naïve " * (index % 7 + 1))["input_ids"]

        class Pad:
            def __init__(self, tokenizer):
                self.tokenizer = tokenizer
            def __call__(self, rows):
                return self.tokenizer.pad({{"input_ids": rows}}, return_tensors="pt")["input_ids"]

        def main():
            tokenizer = LlamaTokenizer.from_pretrained(demo_checkpoint(), pad_token="<unk>")
            texts, pad = Texts(tokenizer), Pad(tokenizer)
            expected = list(DataLoader(texts, batch_size=8, collate_fn=pad))
            loader = DataLoader(
                texts, batch_size=8, collate_fn=pad, num_workers=2, multiprocessing_context="{method}"
            )
            for _ in range(2):
                found = list(loader)
                assert all(map(torch.equal, found, expected)) and len(found) == len(expected)
            print("done")

        if __name__ == "__main__":
            warnings.simplefilter("ignore")
            main()
        """,
    )
    assert out == "done\n"
