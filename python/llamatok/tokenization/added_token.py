"""Tokens that are added to a vocabulary, and how they are found in a text."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

#: What the compiled core takes: (id, content, single_word, lstrip, rstrip, normalized, special).
AddedTokenTuple: TypeAlias = tuple[int, str, bool, bool, bool, bool, bool]

#: The attributes of an added token, in the order in which transformers writes them.
FIELDS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")


@runtime_checkable
class AddedTokenLike(Protocol):
    """Anything with the attributes of an added token, such as `tokenizers.AddedToken`."""

    content: str
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool


class AddedToken:
    """A token with the rules by which it is found in a text, as `tokenizers.AddedToken`.

    Attributes:
        content: The text of the token.
        single_word: Whether it must stand alone: `<a>` is then not found in `x<a>`.
        lstrip: Whether whitespace before it belongs to it.
        rstrip: Whether whitespace after it belongs to it.
        normalized: Whether it is looked for in the normalized text rather than in the text as given; by
            default, unless the token is special. Without meaning for a tokenizer from `tokenizer.model`.
        special: Whether decoding may skip it.

    >>> AddedToken("<pad>", special=True)
    AddedToken("<pad>", rstrip=False, lstrip=False, single_word=False, normalized=False, special=True)
    >>> str(AddedToken("<pad>"))
    '<pad>'
    """

    __slots__ = ("_normalized", "content", "lstrip", "rstrip", "single_word", "special")

    def __init__(
        self,
        content: str = "",
        single_word: bool = False,
        lstrip: bool = False,
        rstrip: bool = False,
        normalized: bool | None = None,
        special: bool = False,
    ) -> None:
        if not isinstance(content, str):
            raise TypeError(f"the content of an added token must be a str, not {type(content).__name__}")
        self.content = content
        self.single_word = bool(single_word)
        self.lstrip = bool(lstrip)
        self.rstrip = bool(rstrip)
        self._normalized = normalized
        self.special = bool(special)

    @property
    def normalized(self) -> bool:
        """Whether it is looked for in the normalized text."""
        return not self.special if self._normalized is None else bool(self._normalized)

    @normalized.setter
    def normalized(self, value: bool) -> None:
        self._normalized = value

    @classmethod
    def of(cls, token: str | AddedTokenLike, *, special: bool | None = None) -> AddedToken:
        """A copy of a token, or one made of a str; `special`, where given, overrides.

        Raises:
            TypeError: It is neither.
        """
        if isinstance(token, str):
            return cls(token, special=bool(special))
        if not isinstance(token, AddedTokenLike):
            raise TypeError(f"a token must be a str or an AddedToken, not {type(token).__name__}: {token!r}")
        return cls(
            token.content,
            token.single_word,
            token.lstrip,
            token.rstrip,
            # A default stays one: a token that becomes special stops being normalized.
            token._normalized if isinstance(token, AddedToken) else token.normalized,
            token.special if special is None else special,
        )

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> AddedToken:
        """The token of a JSON object, as configuration files hold it; keys it does not know are left out."""
        return cls(**{name: value for name, value in fields.items() if name in FIELDS})

    def as_tuple(self, id: int) -> AddedTokenTuple:
        """What the compiled core takes, with the token's id."""
        return (
            id,
            self.content,
            self.single_word,
            self.lstrip,
            self.rstrip,
            self.normalized,
            self.special,
        )

    def __str__(self) -> str:
        return self.content

    def __repr__(self) -> str:
        return (
            f'AddedToken("{self.content}", rstrip={self.rstrip}, lstrip={self.lstrip}, '
            f"single_word={self.single_word}, normalized={self.normalized}, special={self.special})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AddedTokenLike):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in FIELDS)

    def __hash__(self) -> int:
        return hash(self.content)

    def __getstate__(self) -> dict[str, Any]:
        """The attributes by name."""
        return {name: getattr(self, name) for name in FIELDS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
