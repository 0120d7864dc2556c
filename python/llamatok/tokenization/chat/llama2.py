"""Llama 2's chat format as a template, and the system prompt it came with."""

from __future__ import annotations

#: The system prompt that Llama 2's chat models were released with, as transformers 4.37 has it.
DEFAULT_SYSTEM_PROMPT = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while "
    "being safe. Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, "
    "or illegal content. Please ensure that your responses are socially unbiased and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering "
    "something not correct. If you don't know the answer to a question, please don't share false information."
)

_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' -%}
  {%- set system = messages[0]['content'] -%}
  {%- set turns = messages[1:] -%}
{%- else -%}
  {%- set system = __SYSTEM__ -%}
  {%- set turns = messages -%}
{%- endif -%}
{%- for turn in turns -%}
  {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}
    {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') -}}
  {%- endif -%}
  {%- if turn['role'] == 'user' -%}
    {%- if loop.first and system is not none -%}
      {%- set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + turn['content'] -%}
    {%- else -%}
      {%- set content = turn['content'] -%}
    {%- endif -%}
    {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' -}}
  {%- elif turn['role'] == 'system' -%}
    {{- '<<SYS>>\\n' + turn['content'].strip() + '\\n<</SYS>>\\n\\n' -}}
  {%- elif turn['role'] == 'assistant' -%}
    {{- ' ' -}}
    {%- generation -%}
      {{- turn['content'].strip() + ' ' + eos_token -}}
    {%- endgeneration -%}
  {%- endif -%}
{%- endfor -%}
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


#: Llama 2's chat format: `<s>[INST] <<SYS>>...<</SYS>> user [/INST] assistant </s><s>[INST] ...`.
LLAMA2_CHAT_TEMPLATE = _TEMPLATE.replace("__SYSTEM__", "none")

#: The same with Llama 2's system prompt where the first message is no system message and brings none.
LLAMA2_CHAT_TEMPLATE_WITH_SYSTEM_PROMPT = _TEMPLATE.replace(
    "__SYSTEM__",
    f"none if '<<SYS>>' in messages[0]['content'] else {_quoted(DEFAULT_SYSTEM_PROMPT)}",
)
