"""`CodeLlamaTokenizer`: the Llama tokenizer with the tokens of infilling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llamatok.tokenization.batch_encoding import BatchEncoding
from llamatok.tokenization.llama import LlamaTokenizer
from llamatok.tokenization.special_tokens import Token


class CodeLlamaTokenizer(LlamaTokenizer):
    """The tokenizer of Code Llama: a text with a gap becomes prefix, suffix and the order to fill the gap.

    `tokenizer("def f():<FILL_ME>return x")` gives the ids of `<s> ▁<PRE> def f(): ▁<SUF> return x ▁<MID>`,
    and so does `tokenizer.tokenize(prefix, suffix)` without `<s>`. Neither prefix nor suffix is looked
    through for special tokens. A text without a gap is encoded as by `LlamaTokenizer`, with `legacy=False`.

    Args:
        vocab_file: See `LlamaTokenizer`, as for all that is not here.
        prefix_token, middle_token, suffix_token: What stands before the prefix, the gap and the suffix. None:
            the model cannot fill gaps.
        eot_token: The token by which the model ends what it fills in.
        fill_token: The text that stands for the gap.
        suffix_first: Whether the suffix comes before the prefix: `▁<PRE> ▁<SUF> suffix ▁<MID> prefix`.
    """

    def __init__(
        self,
        vocab_file: Any = None,
        *,
        prefix_token: Token | None = "▁<PRE>",
        middle_token: Token | None = "▁<MID>",
        suffix_token: Token | None = "▁<SUF>",
        eot_token: Token | None = "▁<EOT>",
        fill_token: str | None = "<FILL_ME>",
        suffix_first: bool = False,
        additional_special_tokens: Sequence[Token] | None = None,
        legacy: bool | None = None,
        **kwargs: Any,
    ) -> None:
        infilling = [prefix_token, middle_token, suffix_token, eot_token]
        additional: dict[str, Token] = {str(token): token for token in additional_special_tokens or []}
        for token in infilling:
            if token is not None:
                additional.setdefault(str(token), token)
        self.fill_token = fill_token
        self.suffix_first = bool(suffix_first)
        self._infilling_tokens: list[str | None] = [
            None if token is None else str(token) for token in infilling
        ]
        super().__init__(
            vocab_file,
            additional_special_tokens=list(additional.values()),
            # The class has the newer behaviour alone.
            legacy=False if legacy is None else legacy,
            **kwargs,
        )
        names = ("prefix_token", "middle_token", "suffix_token", "eot_token")
        self.init_kwargs |= dict(zip(names, self._infilling_tokens, strict=True))
        self.init_kwargs |= {"fill_token": fill_token, "suffix_first": self.suffix_first}

    @property
    def prefix_token(self) -> str | None:
        """The token before the prefix."""
        return self._infilling_tokens[0]

    @property
    def middle_token(self) -> str | None:
        """The token before what is filled in."""
        return self._infilling_tokens[1]

    @property
    def suffix_token(self) -> str | None:
        """The token before the suffix."""
        return self._infilling_tokens[2]

    @property
    def eot_token(self) -> str | None:
        """The token that ends what is filled in."""
        return self._infilling_tokens[3]

    @property
    def prefix_id(self) -> int | None:
        """The id of `prefix_token`."""
        return None if self.prefix_token is None else self._id_of(self.prefix_token)

    @property
    def middle_id(self) -> int | None:
        """The id of `middle_token`."""
        return None if self.middle_token is None else self._id_of(self.middle_token)

    @property
    def suffix_id(self) -> int | None:
        """The id of `suffix_token`."""
        return None if self.suffix_token is None else self._id_of(self.suffix_token)

    @property
    def eot_id(self) -> int | None:
        """The id of `eot_token`."""
        return None if self.eot_token is None else self._id_of(self.eot_token)

    # Filling gaps

    def tokenize(  # type: ignore[override]
        self,
        text: str,
        suffix: str | None = None,
        suffix_first: bool | None = None,
        pair: str | None = None,
        add_special_tokens: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """The tokens of a text, or of what comes before and after a gap.

        Args:
            text: The text; or what comes before the gap; or both, with `fill_token` for the gap.
            suffix: What comes after the gap.
            suffix_first: Whether the suffix comes first; by default the attribute of this name.
            pair, add_special_tokens: See `LlamaTokenizer.tokenize`.

        Raises:
            ValueError: There is more than one gap, or the model cannot fill gaps.
        """
        text, suffix = self._split_at_gap(text, suffix)
        if not suffix:
            return super().tokenize(text, pair, add_special_tokens, **kwargs)
        ids = self._infilling_ids(text, suffix, suffix_first)
        if add_special_tokens:
            ids = self.build_inputs_with_special_tokens(ids)
        tokens: list[str] = self.convert_ids_to_tokens(ids)
        return tokens

    def __call__(self, text: Any = None, *args: Any, **kwargs: Any) -> BatchEncoding:
        """As `LlamaTokenizer.__call__`, with a gap in each text that has `fill_token` in it.

        `suffix` gives what comes after the gap of a single text, and `suffix_first` the order.
        """
        suffix, first = kwargs.pop("suffix", None), kwargs.pop("suffix_first", None)
        one = isinstance(text, str)
        if not (one or isinstance(text, (list, tuple))) or args or kwargs.get("text_pair") is not None:
            return super().__call__(text, *args, **kwargs)
        texts = [text] if one else list(text)
        fill = self.fill_token
        if suffix is None and not any(isinstance(item, str) and fill and fill in item for item in texts):
            return super().__call__(text, **kwargs)
        if suffix is not None and not one:
            raise ValueError("`suffix` goes with a single text; put `fill_token` into each of several")
        rows: list[list[int]] = []
        for item in texts:
            before, after = self._split_at_gap(item, suffix)
            rows.append(
                self._infilling_ids(before, after, first)
                if after
                else self._ready().encode(before, add_special_tokens=False)
            )
        if one:
            tensors = kwargs.get("return_tensors") is not None
            return self.prepare_for_model(rows[0], prepend_batch_axis=tensors, **kwargs)
        return self._prepare_many([(row, None) for row in rows], kwargs)

    def encode(  # type: ignore[override]
        self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **kwargs: Any
    ) -> Any:
        """The ids of a text, with a gap where `fill_token` is in it; see `LlamaTokenizer.encode`."""
        gap = isinstance(text, str) and self.fill_token is not None and self.fill_token in text
        if gap or "suffix" in kwargs:
            return self(text, add_special_tokens=add_special_tokens, **kwargs)["input_ids"]
        return super().encode(text, text_pair, add_special_tokens, **kwargs)

    def _split_at_gap(self, text: str, suffix: str | None) -> tuple[str, str | None]:
        if suffix is not None or not self.fill_token or self.fill_token not in text:
            return text, suffix
        parts = text.split(self.fill_token)
        if len(parts) != 2:
            raise ValueError(f"a text can have one gap: {self.fill_token} is in it {len(parts) - 1} times")
        return parts[0], parts[1]

    def _infilling_ids(self, prefix: str, suffix: str, suffix_first: bool | None) -> list[int]:
        before, middle, after = self.prefix_id, self.middle_id, self.suffix_id
        if before is None or middle is None or after is None:
            raise ValueError(
                "The input either includes a `prefix` and a `suffix` used for the infilling task,  or can be "
                f"split on the {self.fill_token} token, creating a suffix and prefix, but the model does not "
                "support `infilling`."
            )
        prefix_ids = self._plain_ids(" " + prefix) if prefix else []
        suffix_ids = self._plain_ids(suffix)
        if self.suffix_first if suffix_first is None else suffix_first:
            return [before, after, *suffix_ids, middle, *prefix_ids]
        return [before, *prefix_ids, after, *suffix_ids, middle]

    def _plain_ids(self, text: str) -> list[int]:
        """The ids of a text without prefix space, nothing in which is read as a special token."""
        return self._without_prefix_space().encode(text, add_special_tokens=False)


#: The same class: the file decides the rules, not the name.
CodeLlamaTokenizerFast = CodeLlamaTokenizer
