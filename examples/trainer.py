"""transformers' Trainer with a tiny Llama, on tokens that llamatok makes.

pip install 'llamatok[transformers,torch]' datasets accelerate
python examples/trainer.py book.txt tiny/

The tokenizer is one of transformers, as Trainer wants it, with llamatok's engine inside. Each line of the
file is a text. The result is a folder that transformers and `llamatok generate --model` read.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import datasets
import transformers

from llamatok import LlamaTokenizer
from llamatok.integrations.transformers import accelerate


def tokenizer_of_transformers() -> transformers.PreTrainedTokenizerBase:
    """The embedded vocabulary in a class of transformers, accelerated."""
    with tempfile.TemporaryDirectory() as folder:
        LlamaTokenizer.default(legacy=False).save_pretrained(folder)
        tokenizer = accelerate(transformers.AutoTokenizer.from_pretrained(folder))
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def main(source: str, target: str, steps: int = 10) -> float:
    """Train for some steps, save the model and its tokenizer, and return the last loss."""
    tokenizer = tokenizer_of_transformers()
    texts = [line for line in Path(source).read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = datasets.Dataset.from_dict(dict(tokenizer(texts, truncation=True, max_length=64)))
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
            tie_word_embeddings=True,
        )
    )
    arguments = transformers.TrainingArguments(
        output_dir=target,
        max_steps=steps,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        seed=0,
    )
    trainer = transformers.Trainer(
        model,
        arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.train()
    trainer.save_model(target)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"loss: {losses[0]:.2f} at first, {losses[-1]:.2f} at last")
    return float(losses[-1])


if __name__ == "__main__":
    main(*sys.argv[1:3])
