"""`LlamaTokenizer`: Hugging Face's interface over the exact core."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llamatok._core import Pipeline
from llamatok.tokenization import files, sources
from llamatok.tokenization.added_token import AddedToken, AddedTokenLike
from llamatok.tokenization.chat import Chatting
from llamatok.tokenization.decoding import Decoding
from llamatok.tokenization.loading import Loading
from llamatok.tokenization.saving import Saving
from llamatok.tokenization.special_tokens import NAMED, Token
from llamatok.tokenization.strategies import VERY_LARGE_INTEGER, side

#: What `init_kwargs` leaves out: it is not written to `tokenizer_config.json`.
_NOT_CONFIGURATION = frozenset({"seed", "cache_bytes", "added_tokens_decoder", "chat_template"})

#: Tokens that a Code Llama configuration names; a plain Llama tokenizer made from it does not know them.
_OF_CODE_LLAMA = ("prefix_token", "middle_token", "suffix_token", "eot_token", "fill_token")


class LlamaTokenizer(Chatting, Decoding, Loading, Saving):
    """The Llama tokenizer with the interface of transformers' `LlamaTokenizer` and `LlamaTokenizerFast`.

    What it is made from decides its rules. From a `tokenizer.model` (or GGUF) the ids are those of the
    SentencePiece library and of transformers' SentencePiece-backed class, and padding is on the right. From a
    `tokenizer.json` they are those of the tokenizers library for that file, and padding is on the left.
    `is_fast` tells which.

    >>> from llamatok import LlamaTokenizer
    >>> tokenizer = LlamaTokenizer.default()
    >>> tokenizer.tokenize("the world")
    ['▁the', '▁world']
    >>> tokenizer("the")["input_ids"] == tokenizer.convert_tokens_to_ids(["<s>", "▁the"])
    True

    Args:
        vocab_file: Path of a `tokenizer.model` or of a GGUF file. A dict or list is taken for `vocab`.
        tokenizer_file: Path of a `tokenizer.json`; it goes before `vocab_file`, unless `from_slow`.
        vocab: Ids by token, or tokens in the order of their ids; with `merges`, instead of a file.
        merges: Pairs of tokens, the first ones first. The pipeline is that of transformers 5: without byte
            tokens in the vocabulary, unknown characters are left out.
        tokenizer_object: A `tokenizers.Tokenizer` or a `llamatok.Tokenizer`, instead of a file.
        unk_token, bos_token, eos_token: Special tokens. Those that the vocabulary lacks are added to it.
        pad_token, sep_token, cls_token, mask_token: The same; none by default.
        additional_special_tokens: Special tokens without a name (`extra_special_tokens` in transformers 5,
            where a dict gives names to them).
        sp_model_kwargs: With `enable_sampling` true, merges are left out with probability `alpha`
            (BPE-dropout); `nbest_size` means nothing for BPE.
        seed: Makes that sampling repeatable. Each call draws from it.
        add_bos_token: Whether to put `bos_token`, if there is one, before each text. By default true for a
            `tokenizer.model`, and what the file's template says for a `tokenizer.json`.
        add_eos_token: Whether to put `eos_token`, if there is one, after each text. By default false, or as
            the file's template says.
        clean_up_tokenization_spaces: Whether decoding removes spaces before punctuation and the like.
        use_default_system_prompt: Whether `default_chat_template` begins with Llama 2's system prompt.
        spaces_between_special_tokens: Kept and saved; decoding goes by its own argument, as in transformers.
        legacy: Whether text after a special token gets a prefix space (True, also for None), or the whole
            text alone (False). A `tokenizer.json` says so itself.
        add_prefix_space: Whether there is a prefix space at all; None leaves it to the file.
        from_slow: Whether to take `vocab_file` where there is a `tokenizer_file`, too.
        split_special_tokens: Whether special tokens in a text are read as ordinary text.
        padding_side, truncation_side: "left" or "right".
        model_max_length: The greatest length that the model takes.
        model_input_names: What calling returns; `["input_ids", "attention_mask"]` by default.
        chat_template: A Jinja template, or several by name.
        added_tokens_decoder: Added tokens by id.
        name_or_path: Where it was loaded from.
        cache_bytes: See `llamatok.Tokenizer.from_file`.
        **kwargs: Kept in `init_kwargs` and saved; those that end in "_token" name tokens of the model's own.

    Raises:
        TypeError: Something that should be a token is none.
        ValueError: There is nothing to make it from; or what there is is refused, which says why.
        OSError: A file cannot be read.
    """

    vocab_files_names: Mapping[str, str] = {
        "vocab_file": files.TOKENIZER_MODEL,
        "tokenizer_file": files.TOKENIZER_JSON,
    }
    model_input_names: list[str] = ["input_ids", "attention_mask"]  # noqa: RUF012 - as in transformers
    padding_side: str = "right"
    truncation_side: str = "right"

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | dict[str, int] | Sequence[Any] | None = None,
        *,
        tokenizer_file: str | os.PathLike[str] | None = None,
        vocab: str | dict[str, int] | Sequence[Any] | None = None,
        merges: str | Iterable[str | Sequence[str]] | None = None,
        tokenizer_object: Any = None,
        unk_token: Token | None = "<unk>",
        bos_token: Token | None = "<s>",
        eos_token: Token | None = "</s>",
        pad_token: Token | None = None,
        sp_model_kwargs: dict[str, Any] | None = None,
        seed: int | None = None,
        add_bos_token: bool | None = None,
        add_eos_token: bool | None = None,
        clean_up_tokenization_spaces: bool = False,
        use_default_system_prompt: bool = False,
        spaces_between_special_tokens: bool = False,
        legacy: bool | None = None,
        add_prefix_space: bool | None = None,
        from_slow: bool = False,
        split_special_tokens: bool = False,
        padding_side: str | None = None,
        truncation_side: str | None = None,
        model_max_length: int | None = None,
        model_input_names: Sequence[str] | None = None,
        chat_template: str | dict[str, str] | list[dict[str, str]] | None = None,
        additional_special_tokens: Sequence[Token] | None = None,
        extra_special_tokens: Sequence[Token] | dict[str, Token] | None = None,
        added_tokens_decoder: Mapping[Any, Any] | None = None,
        name_or_path: str | os.PathLike[str] = "",
        verbose: bool = False,
        cache_bytes: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.verbose = verbose
        self.name_or_path = str(name_or_path)
        self.init_inputs: tuple[Any, ...] = ()
        source = sources.load(
            vocab_file,
            tokenizer_file,
            vocab,
            merges,
            tokenizer_object,
            legacy=legacy,
            add_prefix_space=add_prefix_space,
            from_slow=from_slow,
            cache_bytes=cache_bytes,
        )
        loaded = source.pipeline
        self._legacy = source.legacy
        self.vocab_file = source.vocab_file
        self._model_data = source.model_data
        self._add_prefix_space = add_prefix_space
        self._cache_bytes = cache_bytes
        slow = loaded.mode == "sentencepiece"
        if slow:
            self.vocab_files_names = {"vocab_file": files.TOKENIZER_MODEL}
        self._core = loaded.with_added_tokens([])
        self._pipeline = None
        self._template: Any = None

        defaults = source.defaults if slow else _sections(loaded)
        if add_bos_token is None:
            add_bos_token = defaults.get("add_bos_token")
        if add_eos_token is None:
            add_eos_token = defaults.get("add_eos_token")
        if chat_template is None:
            chat_template = defaults.get("chat_template")
        self.padding_side = side(
            padding_side or defaults.get("padding_side") or ("right" if slow else "left"), "padding_side"
        )
        self.truncation_side = side(
            truncation_side or defaults.get("truncation_side") or type(self).truncation_side,
            "truncation_side",
        )
        self.model_max_length = VERY_LARGE_INTEGER if model_max_length is None else model_max_length
        self.model_input_names = list(model_input_names or type(self).model_input_names)
        self.clean_up_tokenization_spaces = bool(clean_up_tokenization_spaces)
        self.split_special_tokens = bool(split_special_tokens)
        self.use_default_system_prompt = bool(use_default_system_prompt)
        self.spaces_between_special_tokens = bool(spaces_between_special_tokens)
        self.chat_template = _templates(chat_template)
        self.sp_model_kwargs = dict(sp_model_kwargs or {})
        self._dropout = _dropout(self.sp_model_kwargs)
        self._random = None if seed is None else random.Random(seed)

        named = {
            "unk_token": unk_token,
            "bos_token": bos_token,
            "eos_token": eos_token,
            "pad_token": pad_token,
        }
        usual = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": None}
        for name, token in named.items():
            if token == usual[name]:
                named[name] = defaults.get(name, token)
        for name in ("sep_token", "cls_token", "mask_token"):
            named[name] = kwargs.pop(name, None)
        own = {
            name: kwargs.pop(name)
            for name in list(kwargs)
            if name.endswith("_token")
            and name not in _OF_CODE_LLAMA
            and isinstance(kwargs[name], (str, AddedTokenLike))
        }
        own |= kwargs.pop("model_specific_special_tokens", None) or {}
        self._named_tokens = dict.fromkeys(NAMED)
        self._additional = []
        self._added_tokens_decoder = {}
        self._added_tokens_encoder = {}
        self._beyond = 0
        for name in NAMED:
            token = named.get(name)
            if token is not None and not isinstance(token, (str, AddedTokenLike)):
                raise TypeError(
                    f"Special token {name} has to be either str or AddedToken but got: {type(token).__name__}"
                )
            self._set_named(
                name, AddedToken(token, special=True) if slow and isinstance(token, str) else token
            )
        if isinstance(extra_special_tokens, dict):
            own |= extra_special_tokens
        else:
            additional_special_tokens = additional_special_tokens or extra_special_tokens
        self.additional_special_tokens = additional_special_tokens
        if own:
            self._set_model_specific(own)
        self._enter_added_tokens(loaded, added_tokens_decoder or {})

        self._add_bos_token, self._add_eos_token = (
            self._template_says(loaded) if source.has_template else (True, False)
        )
        if add_bos_token is not None:
            self._add_bos_token = bool(add_bos_token)
        if add_eos_token is not None:
            self._add_eos_token = bool(add_eos_token)
        if not source.has_template or add_bos_token is not None or add_eos_token is not None:
            self.update_post_processor()

        self.init_kwargs: dict[str, Any] = {
            name: value
            for name, value in {
                "clean_up_tokenization_spaces": self.clean_up_tokenization_spaces,
                "use_default_system_prompt": self.use_default_system_prompt,
                "spaces_between_special_tokens": self.spaces_between_special_tokens,
                "sp_model_kwargs": self.sp_model_kwargs,
                "add_prefix_space": add_prefix_space,
                "legacy": self.legacy,
                "model_max_length": self.model_max_length,
                "pad_token": None if self.pad_token is None else str(self.pad_token),
                **{name: str(token) for name, token in own.items()},
                **kwargs,
            }.items()
            if name not in _NOT_CONFIGURATION
        }

    # What it is made from

    @classmethod
    def default(cls, **kwargs: Any) -> LlamaTokenizer:
        """The tokenizer that comes with llamatok; the arguments are those of the constructor."""
        return cls(Path(__file__).parent.parent / "data" / "default.model", **{"legacy": True, **kwargs})

    def _enter_added_tokens(self, loaded: Pipeline, decoder: Mapping[Any, Any]) -> None:
        """The added tokens of the file, those of the configuration, and special tokens that are neither."""
        for id, content, *flags in loaded.added_tokens:
            self._enter(id, AddedToken(content, *flags))
        configured = [
            (int(id), AddedToken.of(token) if isinstance(token, AddedToken) else _added_token(token))
            for id, token in sorted(decoder.items(), key=lambda item: int(item[0]))
        ]
        if self._slow():
            for id, token in configured:
                self._enter(id, token)
            self.add_tokens(self.all_special_tokens_extended, special_tokens=True)
            return
        known = set(self._added_tokens_encoder)
        special = set(self.all_special_tokens)
        to_add: list[Any] = [token for id, token in configured if self._added_tokens_decoder.get(id) != token]
        known.update(token.content for token in to_add)
        to_add += [token for token in self.all_special_tokens_extended if str(token) not in known]
        for token in to_add:
            is_special = str(token) in special or bool(getattr(token, "special", False))
            self.add_tokens([AddedToken.of(token, special=is_special)])

    # The pipeline

    def _ready(self) -> Pipeline:
        if self._pipeline is None:
            pipeline = self._core.with_added_tokens(
                token.as_tuple(id) for id, token in sorted(self._added_tokens_decoder.items())
            )
            if self._slow():
                additional = [id for id in self.additional_special_tokens_ids if id is not None]
                pipeline = pipeline.with_special_ids(self.all_special_ids, additional)
                self._template = self._built_template()
            if self._template is not None:
                pipeline = pipeline.with_template(*self._template)
            self._pipeline = pipeline
        return self._pipeline

    def _built_template(self) -> tuple[list[Any], list[Any]]:
        bos, eos = self.bos_token, self.eos_token

        def around(sequence: str, type_id: int) -> list[Any]:
            # A token that there is not is not added, as in transformers 5; transformers 4 refused it.
            before = [(bos, self.bos_token_id, type_id)] if self._add_bos_token and bos is not None else []
            after = [(eos, self.eos_token_id, type_id)] if self._add_eos_token and eos is not None else []
            return [*before, (sequence, None, type_id), *after]

        return around("A", 0), around("A", 0) + around("B", 1)

    def update_post_processor(self) -> None:
        """Make `bos_token` and `eos_token` take effect as `add_bos_token` and `add_eos_token` say.

        Needed after `bos_token` or `eos_token` of a tokenizer from `tokenizer.json` is set; all else takes
        effect at once. A token that is None is not added.
        """
        self._template = self._built_template()
        self._pipeline = None

    @property
    def add_bos_token(self) -> bool:
        """Whether `bos_token` is put before each text, unless it is None."""
        return self._add_bos_token

    @add_bos_token.setter
    def add_bos_token(self, value: bool) -> None:
        self._add_bos_token = bool(value)
        self.update_post_processor()

    @property
    def add_eos_token(self) -> bool:
        """Whether `eos_token` is put after each text, unless it is None."""
        return self._add_eos_token

    @add_eos_token.setter
    def add_eos_token(self, value: bool) -> None:
        self._add_eos_token = bool(value)
        self.update_post_processor()

    def _template_says(self, loaded: Pipeline) -> tuple[bool, bool]:
        """Whether the template of the file begins with `bos_token` and ends with `eos_token`."""
        single = loaded.template[0]
        if not single:
            return False, False
        return (
            single[0][1] is not None and single[0][1] == self.bos_token_id,
            single[-1][1] is not None and single[-1][1] == self.eos_token_id,
        )

    @property
    def legacy(self) -> bool:
        """Whether every chunk of text gets a prefix space, or the text alone. Setting it takes effect at once
        for a tokenizer from `tokenizer.model`; a `tokenizer.json` keeps to what it says."""
        return self._legacy

    @legacy.setter
    def legacy(self, value: bool) -> None:
        self._legacy = bool(value)
        if self._slow():
            self._core = self._core.with_settings(legacy=self._legacy)
            self._pipeline = None

    @property
    def add_prefix_space(self) -> bool:
        """Whether the text gets a prefix space. To be set for a tokenizer from `tokenizer.model` only; one
        from `tokenizer.json` takes it as an argument.

        Raises:
            ValueError: It is set for a tokenizer from `tokenizer.json`.
        """
        return True if self._add_prefix_space is None else self._add_prefix_space

    @add_prefix_space.setter
    def add_prefix_space(self, value: bool) -> None:
        if not self._slow():
            raise ValueError("`add_prefix_space` of a tokenizer.json can only be given when it is loaded")
        self._add_prefix_space = bool(value)
        self._core = self._core.with_settings(add_prefix_space=self._add_prefix_space)
        self._pipeline = None

    # About it

    @property
    def is_fast(self) -> bool:
        """Whether the rules are those of the tokenizers library, as a `tokenizer.json` states them."""
        return not self._slow()

    @property
    def can_save_slow_tokenizer(self) -> bool:
        """Whether there is a `tokenizer.model` to save."""
        return self._model_data is not None or (
            self.vocab_file is not None
            and os.path.isfile(self.vocab_file)
            and not sources.is_gguf(self.vocab_file)
        )

    @property
    def backend_tokenizer(self) -> Any:
        """A `tokenizers.Tokenizer` of the same pipeline, made anew: changing it changes nothing here.

        Raises:
            ImportError: The package tokenizers is not installed.
        """
        import tokenizers

        return tokenizers.Tokenizer.from_str(self._ready().to_json().decode())

    def __repr__(self) -> str:
        added = "".join(f"\n\t{id}: {token!r}," for id, token in self.added_tokens_decoder.items())
        return (
            f"{type(self).__name__}(name_or_path='{self.name_or_path}', vocab_size={self.vocab_size}, "
            f"model_max_length={self.model_max_length}, is_fast={self.is_fast}, "
            f"padding_side='{self.padding_side}', truncation_side='{self.truncation_side}', "
            f"special_tokens={self.special_tokens_map}, added_tokens_decoder={{{added}\n}}\n)"
        )

    def train_new_from_iterator(self, text_iterator: Any, vocab_size: int, **kwargs: Any) -> LlamaTokenizer:
        """A tokenizer with the same special tokens, trained on other texts with SentencePiece.

        It is one from a `tokenizer.model`, whatever this one is from. Needs the extra `train`.

        Args:
            text_iterator: Texts, or lists of texts.
            vocab_size: The number of pieces.
            **kwargs: See `llamatok.train.train`.

        Raises:
            ImportError: The extra is not installed.
        """
        from llamatok.train import train

        with tempfile.TemporaryDirectory() as folder:
            texts, model = Path(folder, "texts.jsonl"), Path(folder, "tokenizer.model")
            with texts.open("w", encoding="utf-8") as file:
                for item in text_iterator:
                    for text in [item] if isinstance(item, str) else item:
                        file.write(json.dumps({"text": text}) + "\n")
            train([texts], model, vocab_size=vocab_size, text_key="text", **kwargs)
            trained = type(self)(
                model,
                legacy=self.legacy,
                add_bos_token=self.add_bos_token,
                add_eos_token=self.add_eos_token,
                chat_template=self.chat_template,
                model_max_length=self.model_max_length,
                **self.special_tokens_map,
            )
        trained.vocab_file = None
        return trained

    # Copies

    def __copy__(self) -> LlamaTokenizer:
        made = type(self).__new__(type(self))
        # What a tokenizer changes about itself is its own; the compiled parts are immutable.
        own = {
            name: value.copy() if isinstance(value, (dict, list, set)) else value
            for name, value in self.__dict__.items()
        }
        made.__dict__.update(own)
        return made

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_pipeline": None, "_prefixless": None}
        if self._slow() and self._model_data is not None:
            # The model's bytes are in the state already.
            state["_core"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._core is None:
            assert self._model_data is not None
            self._core = sources.of_model(
                self._model_data, self.legacy, self._add_prefix_space, self._cache_bytes
            )


#: The same class: the file decides the rules, not the name.
LlamaTokenizerFast = LlamaTokenizer


def _sections(loaded: Pipeline) -> dict[str, Any]:
    """What the sections `truncation` and `padding` of a tokenizer.json say of defaults, as transformers 4.57
    reads them."""
    truncation, padding = loaded.truncation or {}, loaded.padding or {}
    found = {
        "truncation_side": truncation.get("direction"),
        "padding_side": padding.get("direction"),
        "pad_token": padding.get("pad_token"),
    }
    return {name: value.lower() if "side" in name else value for name, value in found.items() if value}


def _templates(value: Any) -> str | dict[str, str] | None:
    if isinstance(value, (list, tuple)):
        return {entry["name"]: entry["template"] for entry in value}
    template: str | dict[str, str] | None = value
    return template


def _dropout(sp_model_kwargs: dict[str, Any]) -> float | None:
    unknown = set(sp_model_kwargs) - {"enable_sampling", "nbest_size", "alpha"}
    if unknown:
        raise ValueError(
            f"`sp_model_kwargs` may have 'enable_sampling', 'nbest_size' and 'alpha', not {sorted(unknown)}"
        )
    if not sp_model_kwargs.get("enable_sampling", False):
        return None
    # SentencePiece's own default of alpha.
    alpha = float(sp_model_kwargs.get("alpha", 0.1))
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"`alpha` of `sp_model_kwargs` must be from 0 to 1, not {alpha}")
    return alpha


def _added_token(value: Any) -> AddedToken:
    return AddedToken.from_json(value) if isinstance(value, dict) else AddedToken.of(value)
