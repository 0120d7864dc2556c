"""The special tokens by their names, and tokens added to the vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from llamatok.tokenization.added_token import AddedToken, AddedTokenLike

if TYPE_CHECKING:
    from llamatok._core import Pipeline

Token: TypeAlias = "str | AddedToken"

#: The names that transformers gives to special tokens; "additional_special_tokens" is a list of those
#: without.
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def _token(name: str) -> Any:
    def get(self: SpecialTokens) -> str | None:
        value = self._named_tokens.get(name)
        return None if value is None else str(value)

    def set_(self: SpecialTokens, value: Token | None) -> None:
        self._set_named(name, value)

    return property(get, set_, doc=f"The `{name}`, or None. Setting it adds nothing to the vocabulary.")


def _token_id(name: str) -> Any:
    def get(self: SpecialTokens) -> int | None:
        value = self._named_tokens.get(name)
        return None if value is None else self._id_of(str(value))

    def set_(self: SpecialTokens, value: int | None) -> None:
        self._set_named(name, None if value is None else self._token_of(value))

    return property(get, set_, doc=f"The id of the `{name}`, or None. Setting it sets the token.")


class SpecialTokens:
    """Special tokens by name, and the list of added tokens, of a tokenizer.

    What is set here is put into the compiled pipeline when that is next used, so that many additions one
    after the other cost one rebuilding.
    """

    SPECIAL_TOKENS_ATTRIBUTES: Sequence[str] = [*NAMED, "additional_special_tokens"]

    verbose: bool = False
    _core: Pipeline  # without added tokens
    _pipeline: Pipeline | None  # None: to be made anew
    _named_tokens: dict[str, Token | None]
    _additional: list[Token]
    _added_tokens_decoder: dict[int, AddedToken]
    _added_tokens_encoder: dict[str, int]
    _beyond: int  # the number of added tokens that are no pieces of the model

    bos_token = _token("bos_token")
    eos_token = _token("eos_token")
    unk_token = _token("unk_token")
    sep_token = _token("sep_token")
    pad_token = _token("pad_token")
    cls_token = _token("cls_token")
    mask_token = _token("mask_token")
    bos_token_id = _token_id("bos_token")
    eos_token_id = _token_id("eos_token")
    unk_token_id = _token_id("unk_token")
    sep_token_id = _token_id("sep_token")
    pad_token_id = _token_id("pad_token")
    cls_token_id = _token_id("cls_token")
    mask_token_id = _token_id("mask_token")

    @property
    def pad_token_type_id(self) -> int:
        """The token type id of padding."""
        return 0

    def _slow(self) -> bool:
        """Whether the rules are those of the SentencePiece-backed class."""
        return self._core.mode == "sentencepiece"

    if TYPE_CHECKING:

        def __len__(self) -> int: ...

        def _ready(self) -> Pipeline: ...

    def _id_of(self, token: str) -> int | None:
        """The id of a token, that of the unknown token if there is no such token."""
        found = self._added_tokens_encoder.get(token)
        if found is not None:
            return found
        found = self._core.token_to_id(token)
        if found is not None:
            return found
        unknown = self._named_tokens.get("unk_token")
        if unknown is None:
            return 0 if self._slow() else None
        unknown = str(unknown)
        return self._added_tokens_encoder.get(unknown, self._core.token_to_id(unknown))

    def _token_of(self, id: int) -> str | None:
        added = self._added_tokens_decoder.get(id)
        return self._core.id_to_token(id) if added is None else added.content

    def _set_named(self, name: str, value: Token | None) -> None:
        if value is not None and not isinstance(value, str):
            if not isinstance(value, AddedTokenLike):
                raise ValueError(f"`{name}` must be a str or an AddedToken, not {value!r}")
            value = AddedToken.of(value)
        self._named_tokens[name] = value
        self._pipeline = None

    # The lists

    @property
    def additional_special_tokens(self) -> list[str]:
        """The special tokens that have no name of their own."""
        return [str(token) for token in self._additional]

    @additional_special_tokens.setter
    def additional_special_tokens(self, value: Sequence[Token] | None) -> None:
        self._additional = _tokens("additional_special_tokens", value or [])
        self._pipeline = None

    @property
    def additional_special_tokens_ids(self) -> list[int | None]:
        """The ids of the additional special tokens. Setting them sets the tokens."""
        return [self._id_of(token) for token in self.additional_special_tokens]

    @additional_special_tokens_ids.setter
    def additional_special_tokens_ids(self, value: Sequence[int]) -> None:
        self.additional_special_tokens = [str(self._token_of(id)) for id in value]

    @property
    def extra_special_tokens(self) -> list[str]:
        """The name of `additional_special_tokens` in transformers 5. A dict gives names to tokens."""
        return self.additional_special_tokens

    @extra_special_tokens.setter
    def extra_special_tokens(self, value: Sequence[Token] | dict[str, Token] | None) -> None:
        if isinstance(value, dict):
            self._set_model_specific(value)
        else:
            self.additional_special_tokens = value

    @property
    def extra_special_tokens_ids(self) -> list[int | None]:
        """The ids of `extra_special_tokens`."""
        return self.additional_special_tokens_ids

    def _set_model_specific(self, tokens: dict[str, Token]) -> None:
        """Give names of a model's own to tokens, such as "image_token"."""
        for name, token in tokens.items():
            if hasattr(type(self), name) and name not in self._named_tokens:
                raise ValueError(f"a special token cannot have the name {name!r}, which means something else")
            self._set_named(name, token)
        self.SPECIAL_TOKENS_ATTRIBUTES = [
            *self.SPECIAL_TOKENS_ATTRIBUTES,
            *(name for name in tokens if name not in self.SPECIAL_TOKENS_ATTRIBUTES),
        ]

    def __getattr__(self, name: str) -> Any:
        # Only reached for names that are not found otherwise: the tokens of `_set_model_specific`.
        named = self.__dict__.get("_named_tokens", {})
        if name in named:
            return None if named[name] is None else str(named[name])
        if name.endswith("_id") and name[:-3] in named:
            return None if named[name[:-3]] is None else self._id_of(str(named[name[:-3]]))
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        # Names of `_set_model_specific` are no attributes, and must not become some.
        named = self.__dict__.get("_named_tokens", {})
        if not hasattr(type(self), name):
            if name in named:
                self._set_named(name, value)
                return
            if name.endswith("_id") and name[:-3] in named:
                self._set_named(name[:-3], None if value is None else self._token_of(value))
                return
        super().__setattr__(name, value)

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The special tokens that are set, by name, as str."""
        found: dict[str, Any] = {name: str(token) for name, token in self._named_tokens.items() if token}
        if self._additional:
            found["additional_special_tokens"] = self.additional_special_tokens
        return found

    @property
    def special_tokens_map_extended(self) -> dict[str, Any]:
        """The special tokens that are set, by name, as they were given: str or AddedToken."""
        found: dict[str, Any] = {name: token for name, token in self._named_tokens.items() if token}
        if self._additional:
            found["additional_special_tokens"] = list(self._additional)
        return found

    @property
    def all_special_tokens_extended(self) -> list[Token]:
        """All special tokens as they were given, each once."""
        tokens = [token for token in self._named_tokens.values() if token] + self._additional
        return list({str(token): token for token in reversed(tokens)}.values())[::-1]

    @property
    def all_special_tokens(self) -> list[str]:
        """All special tokens, each once."""
        return [str(token) for token in self.all_special_tokens_extended]

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of all special tokens."""
        ids = (self._id_of(token) for token in self.all_special_tokens)
        return [id for id in ids if id is not None]

    # Adding

    def add_special_tokens(
        self,
        special_tokens_dict: dict[str, Any],
        replace_additional_special_tokens: bool = True,
        replace_extra_special_tokens: bool | None = None,
    ) -> int:
        """Set special tokens by name, and add those to the vocabulary that it does not have.

        The recipe of the Llama 2 document for a padding token:

        >>> from llamatok import LlamaTokenizer
        >>> tokenizer = LlamaTokenizer.default()
        >>> tokenizer.add_special_tokens({"pad_token": "<pad>"})
        1
        >>> tokenizer.pad_token_id == len(tokenizer) - 1
        True

        Args:
            special_tokens_dict: Tokens by name: "bos_token", "pad_token", ..., and a list of them for
                "additional_special_tokens" (or "extra_special_tokens").
            replace_additional_special_tokens: Whether that list takes the place of the one before.
            replace_extra_special_tokens: The name of the same in transformers 5.

        Returns:
            The number of tokens added to the vocabulary.

        Raises:
            ValueError: A name that there is not, or a value that is no token.
        """
        if not special_tokens_dict:
            return 0
        if replace_extra_special_tokens is not None:
            replace_additional_special_tokens = replace_extra_special_tokens
        to_add: list[AddedToken] = []
        for name, value in special_tokens_dict.items():
            if name in ("additional_special_tokens", "extra_special_tokens"):
                tokens = [_special(token) for token in _tokens(name, value)]
                if replace_additional_special_tokens and tokens:
                    self.additional_special_tokens = tokens
                else:
                    known = self.additional_special_tokens
                    tokens = [token for token in tokens if token.content not in known]
                    self._additional.extend(tokens)
                to_add += tokens
            elif name in self._named_tokens:
                if not isinstance(value, (str, AddedTokenLike)):
                    raise ValueError(f"`{name}` must be a str or an AddedToken, not {value!r}")
                token = _special(value)
                self._set_named(name, token)
                if token not in to_add:
                    to_add.append(token)
            else:
                names = ", ".join((*self._named_tokens, "additional_special_tokens"))
                raise ValueError(f"{name!r} is not the name of a special token; there are {names}")
        return self.add_tokens(to_add, special_tokens=True)

    def add_tokens(
        self,
        new_tokens: Token | AddedTokenLike | Sequence[Token | AddedTokenLike],
        special_tokens: bool = False,
    ) -> int:
        """Add tokens to the vocabulary; they are then found in texts, whole.

        Args:
            new_tokens: A token or several. One that is already in the vocabulary keeps its id.
            special_tokens: Whether decoding may skip them.

        Returns:
            The number of tokens added. One that is already a piece of the model counts for a tokenizer from
            `tokenizer.json`, and not for one from `tokenizer.model`, as in transformers.

        Raises:
            TypeError: Something is neither str nor AddedToken.
        """
        if not new_tokens:
            return 0
        if isinstance(new_tokens, (str, AddedTokenLike)):
            new_tokens = [new_tokens]
        new_tokens = list(new_tokens)
        for token in new_tokens:
            # Before anything is added, so that all of them are or none.
            if not isinstance(token, (str, AddedTokenLike)):
                raise TypeError(f"a token must be a str or an AddedToken, not {token!r}")
        add = self._add_slow if self._slow() else self._add_fast
        added = add(new_tokens, special_tokens)
        self._pipeline = None
        return added

    def sanitize_special_tokens(self) -> int:
        """Add all special tokens to the vocabulary that are not in it, and return their number."""
        return self.add_tokens(self.all_special_tokens_extended, special_tokens=True)

    def _add_slow(self, tokens: Iterable[Token | AddedTokenLike], special_tokens: bool) -> int:
        """What transformers' `PreTrainedTokenizer._add_tokens` does (4.57)."""
        added = 0
        next_id = len(self)
        known_special = set(self.all_special_tokens)
        for given in tokens:
            if str(given) == "":
                continue
            if isinstance(given, str):
                if given in self._added_tokens_encoder:
                    continue
                special = special_tokens or given in known_special
                token = AddedToken(given, normalized=not special, special=special)
            else:
                token = AddedToken.of(given)
                if special_tokens:
                    token = AddedToken.of(token, special=True)
                    token.normalized = given.normalized
            id = self._added_tokens_encoder.get(token.content)
            if id is None:
                id = self._core.token_to_id(token.content)
            if id is None:
                id = next_id + added
                added += 1
            if token.special and token.content not in known_special:
                self._additional.append(token)
                known_special.add(token.content)
            self._enter(id, token)
        return added

    def _add_fast(self, tokens: Iterable[Token | AddedTokenLike], special_tokens: bool) -> int:
        """What the tokenizers library does (`AddedVocabulary::add_tokens`)."""
        added = 0
        size = self._core.vocab_size(with_added=False)
        next_id = max(size, max(self._added_tokens_decoder, default=-1) + 1)
        for given in tokens:
            if isinstance(given, str):
                token = AddedToken(given, special=special_tokens)
            else:
                token = AddedToken.of(given, special=True if special_tokens else None)
            known = self._added_tokens_encoder.get(token.content)
            if token.content == "" or (known is not None and self._added_tokens_decoder[known] == token):
                continue
            id = known if known is not None else self._core.token_to_id(token.content)
            if id is None:
                id, next_id = next_id, next_id + 1
            self._enter(id, token)
            added += 1
        return added

    def _enter(self, id: int, token: AddedToken) -> None:
        before = self._added_tokens_decoder.get(id)
        if before is None:
            self._beyond += self._is_beyond(id, token)
        elif before.content != token.content:
            self._beyond += self._is_beyond(id, token) - self._is_beyond(id, before)
            self._added_tokens_encoder.pop(before.content, None)
        self._added_tokens_decoder[id] = token
        self._added_tokens_encoder[token.content] = id

    def _is_beyond(self, id: int, token: AddedToken) -> bool:
        """Whether a token makes the vocabulary larger: the slow class counts ids, the fast one texts."""
        if self._slow():
            return id >= self._core.vocab_size(with_added=False)
        return self._core.token_to_id(token.content) is None

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by id."""
        return {id: AddedToken.of(token) for id, token in sorted(self._added_tokens_decoder.items())}

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """The ids of the added tokens, in their order."""
        return {token.content: id for id, token in sorted(self._added_tokens_decoder.items())}

    def get_added_vocab(self) -> dict[str, int]:
        """The ids of the added tokens, special ones among them."""
        return self.added_tokens_encoder


def _special(token: Token | AddedTokenLike) -> AddedToken:
    if isinstance(token, str):
        return AddedToken(token, normalized=False, special=True)
    return AddedToken.of(token)


def _tokens(name: str, value: Any) -> list[Token]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(t, (str, AddedTokenLike)) for t in value):
        raise ValueError(f"`{name}` must be a list of str or AddedToken, not {value!r}")
    return [token if isinstance(token, str) else AddedToken.of(token) for token in value]
