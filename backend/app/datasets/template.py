"""Chat templates: the model's own Jinja text, compiled in a sandbox that gives what transformers gives.

Templates come from the hub and are untrusted code: the environment is jinja2's immutable sandbox, without file
loaders, with plain strings as data. No server renders one: processes do that have limits (`datasets/tokens.py`), and
in all others each rendering has (`datasets/template_limits.py`).
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from app.contracts.dataset import Message
from app.core.errors import ModelUnavailable
from app.datasets.template_limits import rendering

MAX_TEMPLATE_CHARACTERS = 1 << 20
"""Longest template that is compiled; the longest published ones have about 20,000 characters."""

PLAIN_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content + '\\n\\n' }}
{%- elif message.role == 'assistant' -%}{{ '### Response:\\n' + message.content + eos_token + '\\n\\n' }}
{%- elif message.role == 'tool' -%}{{ '### Result:\\n' + message.content + '\\n\\n' }}
{%- else -%}{{ '### Instruction:\\n' + message.content + '\\n\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '### Response:\\n' }}{%- endif -%}
"""
"""How a conversation is written for a model that has no chat template (GPT-2, Llama 2 base, ...).

Headings `### Instruction:` and `### Response:` as in Stanford Alpaca (2023), without its opening sentence, which is
English only; a system message stands first without a heading. Each answer ends with the model's end-of-text token,
which is how the tuned model knows where to stop. Chat uses exactly the same text as training.
"""


class _GenerationBlock(Extension):
    """Accepts `{% generation %}...{% endgeneration %}`: the content is written as if the tags were not there."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    @staticmethod
    def _content(caller: Any) -> str:
        return str(caller())


class _Dict:
    """`dict(...)` for templates, without the class's attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class _Namespace(Namespace):
    """`namespace(...)` for templates that refuses names with a leading underscore (a way out of the sandbox)."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a template may pass `self=`
        self, rest = args[0], args[1:]
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _Namespace._check(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._check(name)
        Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a chat template cannot store {name!r}")


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without HTML escapes (jinja2's own filter escapes `<`, which no model was trained on)."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Without powers: `9 ** 9 ** 9` is one step of the interpreter, which no limit on time interrupts."""

    intercepted_binops = frozenset(["**"])

    def call_binop(self, _context: Context, _operator: str, _left: Any, _right: Any) -> Any:
        raise SecurityError("a chat template cannot raise to a power")


class ChatTemplate:
    """One compiled template together with the special tokens that it may write."""

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        """Compile `source`. Raise ModelUnavailable when it is not a template.

        `special_tokens` maps `bos_token`, `eos_token`, ... to their text. The date that `strftime_now` shows is
        that of the compilation: rendering twice gives the same text, also over midnight.
        """
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise ModelUnavailable("template_broken", reason=f"{len(source)} characters")
        now = datetime.now()
        environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": now.strftime,
            "dict": _Dict(),
            "namespace": _Namespace,
        }
        self._special_tokens = special_tokens
        try:
            with rendering():  # what does not depend on the conversation is computed here
                self._template = environment.from_string(source)
            self._template.globals = dict(self._template.globals)  # a ChainMap, gone through in Python at every rendering
        except (TemplateError, RecursionError) as error:
            raise ModelUnavailable("template_broken", reason=one_line(error)) from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Return the text of `messages`. Raise TemplateError with a one-line reason when the template cannot, ModelUnavailable
        when it takes too much time or memory."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            with rendering():
                return self._template.render(
                    **self._special_tokens,
                    messages=turns,
                    tools=None,
                    documents=None,
                    add_generation_prompt=add_generation_prompt,
                )
        except TemplateError:
            raise
        # What a template's expressions can raise besides: a number added to a text, a missing index, ...
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            raise TemplateError(one_line(error)) from error


def one_line(error: Exception) -> str:
    """Return the first 200 characters of an error's message on one line."""
    return " ".join(f"{error}".split())[:200] or type(error).__name__
