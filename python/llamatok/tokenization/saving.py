"""`save_pretrained`: a tokenizer into files that llamatok and transformers load."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamatok.tokenization import files, tokenizer_json
from llamatok.tokenization.added_token import AddedToken
from llamatok.tokenization.loading import SOURCE, source_mark
from llamatok.tokenization.special_tokens import SpecialTokens

if TYPE_CHECKING:
    from llamatok._core import Pipeline


class Saving(SpecialTokens):
    """Writing a tokenizer's files."""

    init_kwargs: dict[str, Any]
    vocab_file: str | None
    chat_template: str | dict[str, str] | None
    model_max_length: int
    padding_side: str
    truncation_side: str
    model_input_names: list[str]
    clean_up_tokenization_spaces: bool
    split_special_tokens: bool
    name_or_path: str
    _model_data: bytes | None
    _add_prefix_space: bool | None
    _add_bos_token: bool
    _add_eos_token: bool

    can_save_slow_tokenizer: Any
    vocab_size: Any

    if TYPE_CHECKING:

        def _built_template(self) -> tuple[list[Any], list[Any]]: ...

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        legacy_format: bool | None = None,
        filename_prefix: str | None = None,
        push_to_hub: bool = False,
        *,
        save_jinja_files: bool = True,
        **kwargs: Any,
    ) -> tuple[str, ...]:
        """Write the tokenizer into a folder, for `from_pretrained` of llamatok and of transformers.

        There are written: `tokenizer_config.json`, `special_tokens_map.json`, the chat templates, and, where
        the model file is known, a copy of `tokenizer.model` with `added_tokens.json`, which versions 4 of
        transformers read, and a `tokenizer.json`, which all versions read.

        Args:
            save_directory: The folder; made if there is none.
            legacy_format: True leaves out the `tokenizer.json`, False the `tokenizer.model`.
            filename_prefix: What the files' names begin with, before a "-".
            push_to_hub: Whether to upload the folder, too; see `push_to_hub`.
            save_jinja_files: Whether templates get files of their own, besides `tokenizer_config.json`.
            **kwargs: Arguments of `push_to_hub`, and `repo_id`.

        Returns:
            The paths of the files. As in transformers `added_tokens.json` is named also where there are no
            added tokens, and so no such file.

        Raises:
            NotADirectoryError: `save_directory` is a file.
            ValueError: `legacy_format` is true, and the model file is not known.
        """
        folder = Path(save_directory)
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder} should be a directory, not a file")
        folder.mkdir(parents=True, exist_ok=True)
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        with_model = legacy_format is not False and self.can_save_slow_tokenizer
        if legacy_format and not with_model:
            raise ValueError(_NO_MODEL)
        content = None if legacy_format else tokenizer_json.for_all_versions(self._pipeline_json())
        data = None if content is None else json.dumps(content, ensure_ascii=False).encode()
        config, templates = self._config(content), self._template_files(prefix) if save_jinja_files else {}
        if with_model and data is not None and self._slow():
            config[SOURCE] = source_mark(data)

        written = [
            files.write(folder / f"{prefix}{files.TOKENIZER_CONFIG}", files.json_text(config)),
            files.write(
                folder / f"{prefix}{files.SPECIAL_TOKENS_MAP}",
                files.json_text(self._special_tokens_map_json()),
            ),
        ]
        for name, template in templates.items():
            (folder / name).parent.mkdir(exist_ok=True)
            written.append(files.write(folder / name, template.encode()))
        if with_model:
            added_path = folder / f"{prefix}{files.ADDED_TOKENS}"
            size = self.vocab_size
            added = {token: id for token, id in self.added_tokens_encoder.items() if id >= size}
            if added:
                files.write(added_path, files.json_text(added))
            written += [*self.save_vocabulary(str(folder), filename_prefix), str(added_path)]
        if data is not None:
            written.append(files.write(folder / f"{prefix}{files.TOKENIZER_JSON}", data))
        if push_to_hub:
            repo_id = kwargs.pop("repo_id", folder.name)
            _upload(folder, repo_id, **kwargs)
        return tuple(written)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Write a copy of the `tokenizer.model`, byte for byte, into a folder, and return its path.

        Raises:
            NotADirectoryError: There is no such folder.
            ValueError: The model file is not known.
        """
        folder = Path(save_directory)
        if not folder.is_dir():
            raise NotADirectoryError(f"Vocabulary path ({save_directory}) should be a directory")
        if not self.can_save_slow_tokenizer:
            raise ValueError(_NO_MODEL)
        target = folder / f"{filename_prefix + '-' if filename_prefix else ''}{files.TOKENIZER_MODEL}"
        data = self._model_data
        if data is None:
            assert self.vocab_file is not None
            data = Path(self.vocab_file).read_bytes()
        return (files.write(target, data),)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Save the tokenizer and upload it to the Hugging Face hub.

        Args:
            repo_id: The name of the repository; made if there is none.
            commit_message: The message of the commit.
            private: Whether a new repository is private.
            token: The hub's token.
            revision: The branch to upload to.
            create_pr: Whether to open a pull request instead.
            **kwargs: Arguments of `save_pretrained`.

        Returns:
            What `huggingface_hub.HfApi.upload_folder` returns.

        Raises:
            ImportError: huggingface_hub is not installed.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, **kwargs)
            return _upload(
                Path(folder),
                repo_id,
                commit_message=commit_message,
                private=private,
                token=token,
                revision=revision,
                create_pr=create_pr,
            )

    # What is written

    def _pipeline_json(self) -> bytes:
        """The `tokenizer.json` whose ids are as near as can be to those of this tokenizer.

        The rules of the SentencePiece-backed class can be said there but for few texts. In two things the
        likeness is not one of settings: the legacy rules give the same ids without `add_prefix_space`, and
        find added tokens in the text as it is, normalized or not.
        """
        if not self._slow():
            return self._ready().to_json()
        pipeline = self._ready()
        if pipeline.legacy:
            pipeline = pipeline.with_settings(add_prefix_space=True)
        return pipeline.with_added_tokens(
            token.as_tuple(id) for id, token in self._written_added_tokens().items()
        ).to_json()

    def _written_added_tokens(self) -> dict[int, AddedToken]:
        tokens = self.added_tokens_decoder
        if not self._slow():
            return tokens
        return {
            id: AddedToken.from_json({**t.__getstate__(), "normalized": False}) for id, t in tokens.items()
        }

    def _config(self, content: dict[str, Any] | None) -> dict[str, Any]:
        """The content of `tokenizer_config.json`, beside a `tokenizer.json` of `content`."""
        config = {
            **{name: getattr(self, name, value) for name, value in self.init_kwargs.items()},
            "add_prefix_space": self._add_prefix_space,
            "model_max_length": self.model_max_length,
            "clean_up_tokenization_spaces": self.clean_up_tokenization_spaces,
            "padding_side": self.padding_side,
            "truncation_side": self.truncation_side,
            "model_input_names": self.model_input_names,
            # Where nothing is said, a reader takes the usual token.
            **{name: None for name in ("bos_token", "eos_token", "unk_token")},
            **self.special_tokens_map,
        }
        if self.split_special_tokens:
            config["split_special_tokens"] = True
        config.setdefault("extra_special_tokens", {})
        own = {
            name: str(token)
            for name, token in self._named_tokens.items()
            if name not in SpecialTokens.SPECIAL_TOKENS_ATTRIBUTES and token is not None
        }
        config["extra_special_tokens"] = own
        # A template that these two words cannot say is left to the tokenizer.json.
        plain_template = self._slow() or self._template_is_plain(self._ready())
        if plain_template:
            # Some readers refuse to add a token that there is not.
            config["add_bos_token"] = self._add_bos_token and self.bos_token is not None
            config["add_eos_token"] = self._add_eos_token and self.eos_token is not None
        if isinstance(self.chat_template, dict):
            config["chat_template"] = [
                {"name": name, "template": template} for name, template in self.chat_template.items()
            ]
        elif self.chat_template is not None:
            config["chat_template"] = self.chat_template
        config["added_tokens_decoder"] = {
            str(id): token.__getstate__() for id, token in self._written_added_tokens().items()
        }
        config["tokenizer_class"] = self._class_for_others(content, plain_template)
        if config.get("add_prefix_space") is None:
            # The classes of transformers take None for different things, and nothing for the same.
            config.pop("add_prefix_space", None)
        written: dict[str, Any] = _without_added_tokens(config)
        return written

    def _template_is_plain(self, pipeline: Pipeline) -> bool:
        single, pair = pipeline.template
        try:
            built = self._built_template()
        except ValueError:
            return False
        return (list(map(tuple, single)), list(map(tuple, pair))) == built

    def _class_for_others(self, content: dict[str, Any] | None, plain_template: bool) -> str:
        """The class by which transformers gives the same ids.

        `LlamaTokenizer` of transformers 5 takes the vocabulary and the merges of a `tokenizer.json` and puts
        a pipeline of its own around them, which is another one for the legacy behaviour: " x" loses its
        space. A class that does not know of Llama runs the pipeline of the file.
        """
        name = type(self).__name__
        if name != "LlamaTokenizer" or content is None:
            return name
        if plain_template and tokenizer_json.is_nonlegacy_llama(content):
            return name
        return "PreTrainedTokenizerFast"

    def _special_tokens_map_json(self) -> dict[str, Any]:
        def written(token: Any) -> Any:
            if isinstance(token, list):
                return [written(item) for item in token]
            if isinstance(token, AddedToken):
                return {name: value for name, value in token.__getstate__().items() if name != "special"}
            return token

        return {name: written(token) for name, token in self.special_tokens_map_extended.items()}

    def _template_files(self, prefix: str) -> dict[str, str]:
        """The chat templates by the names of their files."""
        if self.chat_template is None:
            return {}
        if isinstance(self.chat_template, str):
            return {f"{prefix}{files.CHAT_TEMPLATE}": self.chat_template}
        found: dict[str, str] = {}
        for name, template in self.chat_template.items():
            if name == "default":
                found[f"{prefix}{files.CHAT_TEMPLATE}"] = template
            elif Path(name).name != name or name in ("", ".", ".."):
                raise ValueError(f"{name!r} cannot be the name of a chat template: it is no name for a file")
            else:
                found[f"{prefix}{files.MORE_CHAT_TEMPLATES}/{name}.jinja"] = template
        return found


_NO_MODEL = (
    "there is no tokenizer.model to save: the tokenizer was not made from one, or the file is gone. "
    "Save with `legacy_format=False` for a tokenizer.json"
)


def _without_added_tokens(value: Any) -> Any:
    """A configuration with its added tokens in the form that transformers writes."""
    if isinstance(value, AddedToken):
        return {**value.__getstate__(), "__type": "AddedToken"}
    if isinstance(value, dict):
        return {key: _without_added_tokens(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_added_tokens(item) for item in value]
    return value


def _upload(folder: Path, repo_id: str, **options: Any) -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ImportError(
            "uploading to the Hugging Face hub needs huggingface_hub: pip install 'llamatok[hub]'"
        ) from error
    hub = HfApi(token=options.pop("token", None))
    private = options.pop("private", None)
    repo = hub.create_repo(repo_id, private=private, exist_ok=True)
    options.setdefault("commit_message", None)
    options["commit_message"] = options["commit_message"] or "Upload tokenizer"
    return hub.upload_folder(repo_id=repo.repo_id, folder_path=str(folder), **options)
