"""One tokenizer in many threads, while others add tokens to copies of it, or to itself."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

from llamatok import LlamaTokenizer, demo_checkpoint

TEXTS = [f"Text number {i}: naïve café 你好 <new_{i % 7}> {'word ' * (i % 40)}" for i in range(60)]
THREADS = 16


def loaded():
    return LlamaTokenizer.from_pretrained(demo_checkpoint(), pad_token="<unk>")


def answers(tokenizer):
    batch = tokenizer(TEXTS, padding=True)
    single = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS[:10]]
    return batch["input_ids"], single, tokenizer.batch_decode(batch["input_ids"]), len(tokenizer)


def while_others_ask(tokenizer, check, change):
    """Runs `check` in 16 threads again and again as long as `change` takes."""
    done = threading.Event()

    def ask(_):
        rounds = 0
        while not done.is_set() or rounds == 0:
            check(tokenizer)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(THREADS) as pool:
        asked = pool.map(ask, range(THREADS))
        try:
            change()
        finally:
            done.set()
        assert min(asked) > 0


def test_copies_get_tokens_while_the_original_serves(default_tokenizer):
    tokenizer = loaded()
    expected = answers(tokenizer)
    native = default_tokenizer.encode_batch(TEXTS).to_lists()

    def check(tokenizer):
        assert answers(tokenizer) == expected
        assert default_tokenizer.encode_batch(TEXTS, num_threads=2).to_lists() == native

    def change():
        for number in range(3):
            for again in (copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))):
                other = again(tokenizer)
                other.add_tokens([f"<new_{number}>"])
                other.add_special_tokens({"additional_special_tokens": ["number"]})
                ids = other.encode(f"a <new_{number}> number")
                assert other.convert_tokens_to_ids([f"<new_{number}>", "number"]) == [32_000, 32_001]
                assert {32_000, 32_001} <= set(ids)

    while_others_ask(tokenizer, check, change)
    assert answers(tokenizer) == expected


def test_tokens_are_added_while_others_encode():
    """Each call has the tokens from before or after a change, never half of them."""
    text = "naïve <new_0> <new_1> word"
    tokens = [f"<new_{number}>" for number in range(7)]
    stages = [loaded()]
    for token in tokens:
        stages.append(copy.deepcopy(stages[-1]))
        stages[-1].add_tokens([token])
    allowed = [stage.encode(text) for stage in stages]
    tokenizer = loaded()

    def check(tokenizer):
        assert tokenizer.encode(text) in allowed
        assert tokenizer([text] * 5)["input_ids"][4] in allowed

    def change():
        for token in tokens:
            tokenizer.add_tokens([token])
            check(tokenizer)

    while_others_ask(tokenizer, check, change)
    assert tokenizer.encode(text) == allowed[-1]
    assert len(tokenizer) == 32_007
