"""From a prompt to text: `model.generate`, streaming, settings, and the `text-generation` pipeline.

Needs torch (the extra `torch`).
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as _error:
    raise ImportError(
        f"llamatok.generation needs torch ({_error}): pip install 'llamatok[torch]'"
    ) from _error

from llamatok.generation.call import astream, generate, stream, stream_tokens
from llamatok.generation.config import GenerationConfig, GenerationConfigError
from llamatok.generation.output import GenerateOutput
from llamatok.generation.processors import LogitsProcessor, LogitsProcessorList
from llamatok.generation.stopping import StoppingCriteria, StoppingCriteriaList
from llamatok.generation.streamers import AsyncTextIteratorStreamer, TextIteratorStreamer, TextStreamer

__all__ = [
    "AsyncTextIteratorStreamer",
    "GenerateOutput",
    "GenerationConfig",
    "GenerationConfigError",
    "LogitsProcessor",
    "LogitsProcessorList",
    "StoppingCriteria",
    "StoppingCriteriaList",
    "TextIteratorStreamer",
    "TextStreamer",
    "astream",
    "generate",
    "stream",
    "stream_tokens",
]
