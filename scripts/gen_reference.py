"""Write docs/reference from the code: settings, error codes, command line, models. Part of `make gen`."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import app.api.errors  # noqa: F401 - its classes belong in the list of codes
from app.cli.application import build
from app.core.errors import AffinageError
from app.core.messages import catalogue
from app.core.settings import Settings
from app.services.finetuning_service import MODEL_CONFIGS

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Written by `make gen` (scripts/gen_reference.py) from the code. Do not edit. -->\n\n"
NOT_FOR_THE_LIST = ("cli", "field", "note", "word")
"""Labels and parts of sentences, not messages with a code."""


def cell(text: object) -> str:
    """Return a text that fits into a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def table(headings: list[str], rows: list[list[object]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(map(cell, line)) + " |\n" for line in lines) + "\n"


def settings_page() -> str:
    """Return one line per setting."""
    rows: list[list[object]] = []
    for name, field in Settings.model_fields.items():
        default = (
            "`data/` of the checkout, else `~/.local/share/affinage`"
            if name == "data_dir"
            else f"`{field.default}`"
            if field.default != ""
            else "empty"
        )
        rows.append([f"`AFFINAGE_{name.upper()}`", default, field.description or ""])
    others: list[list[object]] = [
        [
            "`AFFINAGE_CONFIG`",
            "Another TOML file than `affinage.toml` in the data folder; its names are those above in lower case.",
        ],
        ["`HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`", "The model hub: a mirror, a token for gated models, no network at all."],
        ["`LC_ALL`, `LANG`", "`fr...`: the command line speaks French."],
    ]
    intro = "`affinage settings` prints each value and where it comes from. The environment goes before the TOML file.\n\n"
    return "# Settings\n\n" + intro + table(["variable", "default", "meaning"], rows) + table(["variable", "meaning"], others)


def error_classes(parent: type[AffinageError]) -> Iterator[type[AffinageError]]:
    """Yield every expected failure."""
    for child in parent.__subclasses__():
        yield child
        yield from error_classes(child)


def errors_page() -> str:
    """Return every message by code, in both languages: failures first, then what is only said."""
    statuses: dict[str, set[int]] = defaultdict(set)
    for kind in [AffinageError, *error_classes(AffinageError)]:
        statuses[kind.code].add(kind.status_code)
    english, french = catalogue("en"), catalogue("fr")
    groups: dict[str, list[str]] = defaultdict(list)
    for key in english:
        code = key.split(".")[0]
        if code not in NOT_FOR_THE_LIST:
            groups[code].append(key)
    text = (
        "# Codes and messages\n\nAn answer with a status of 400 or more holds "
        '`{"error": {"code", "message", "hint"}}`, and `details` where single fields or rows are at fault. '
        "`code` never changes; the sentences follow `Accept-Language`. Words in braces are filled in.\n\n## Failures\n\n"
    )
    failures = sorted(code for code in groups if code in statuses)
    others = sorted(code for code in groups if code not in statuses)
    for code in failures:
        status = ", ".join(map(str, sorted(statuses[code])))
        text += f"### `{code}` (HTTP {status})\n\n" + message_list(groups[code], english, french)
    text += "## Warnings, reasons and notes\n\nThey never stop anything.\n\n"
    for code in others:
        text += f"### `{code}`\n\n" + message_list(groups[code], english, french)
    return text


def message_list(keys: list[str], english: dict[str, dict[str, str]], french: dict[str, dict[str, str]]) -> str:
    """Return the messages of one code."""
    lines = ""
    for key in sorted(keys):
        for mark, entry in (("-", english[key]), (" ", french[key])):
            hint = f" *{entry['hint']}*" if entry.get("hint") else ""
            lines += f"{mark} {'<br>' if mark == ' ' else ''}{' '.join(entry['message'].split())}{hint}\n"
    return lines + "\n"


def cli_page() -> str:
    """Return usage, arguments and options of every command."""
    root = typer.main.get_command(build())
    text = (
        "# Command line\n\n`affinage` uses the same services as the API. `--json` prints exactly one JSON document on stdout "
        "(`jobs follow`: one event a line); failures are then the house error body, on stdout too. "
        "Exit status: 0 done, 1 failed, 2 wrong usage.\n\n"
    )
    return text + command_section(root, "affinage", heading="")


def command_section(command: Any, path: str, heading: str) -> str:
    """Return the section of one command and of those below it."""
    subcommands: dict[str, Any] = getattr(command, "commands", {})
    text = f"{heading}\n\n{command.help}\n\n" if heading else ""
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option" and not parameter.hidden]
    usage = " ".join([path, *(argument_text(each) for each in arguments), *(["COMMAND"] if subcommands else [])])
    text += f"```\n{usage}{' [OPTIONS]' if options else ''}\n```\n\n"
    rows: list[list[object]] = [[f"`{(each.metavar or each.name).upper()}`", each.help or ""] for each in arguments]
    rows += [[f"`{', '.join([*each.opts, *each.secondary_opts])}`", each.help or ""] for each in options]
    text += table(["argument or option", "meaning"], rows) if rows else ""
    for name, child in subcommands.items():
        text += command_section(child, f"{path} {name}", heading=f"{'###' if heading else '##'} {path} {name}")
    return text


def argument_text(argument: Any) -> str:
    """Return an argument as a usage line shows it."""
    name = (argument.metavar or argument.name).upper()
    return name if argument.required else f"[{name}]"


def models_page() -> str:
    """Return the catalogue."""
    rows: list[list[object]] = [
        [
            f"`{key}`",
            model.display_name,
            f"{model.vram_required_gb:g} GB",
            "★" * model.quality_rating,
            "★" * model.speed_rating,
            f"{model.batch_size} × {model.gradient_accumulation_steps}",
            f"{model.learning_rate:g}",
            model.max_length,
            f"{model.lora_rank} / {model.lora_alpha}",
            f"{model.licence}{', gated' if model.gated else ''}",
            model.description,
        ]
        for key, model in MODEL_CONFIGS.items()
    ]
    headings = ["id", "name", "memory", "quality", "speed", "batch", "rate", "length", "rank / alpha", "licence", "good for"]
    intro = (
        "The entries of `MODEL_CONFIGS` in `backend/app/services/finetuning_service.py`. Memory is GPU memory for the entry's "
        "own values, `batch` is rows per micro-batch × accumulation. [Add one of your own](../how-to/add-a-model.md).\n\n"
    )
    return "# Models\n\n" + intro + table(headings, rows)


def main() -> None:
    """Write every page."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    pages = {"settings": settings_page, "errors": errors_page, "cli": cli_page, "models": models_page}
    for name, page in pages.items():
        (REFERENCE / f"{name}.md").write_text(NOTE + page().rstrip() + "\n", encoding="utf-8")
    openapi = json.loads((REFERENCE.parents[1] / "frontend" / "openapi.json").read_text("utf-8"))
    (REFERENCE / "api.md").write_text(NOTE + api_page(openapi).rstrip() + "\n", encoding="utf-8")


def api_page(openapi: dict[str, Any]) -> str:
    """Return one line per route; the whole contract is at /docs of a running server."""
    rows: list[list[object]] = []
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            codes = ", ".join(code for code in operation["responses"] if code.startswith("2"))
            rows.append([f"`{method.upper()} {path}`", operation.get("description", ""), codes])
    intro = "The same with every field, and ready to try, at `/docs` of a running server (and `/openapi.json`).\n\n"
    return "# HTTP interface\n\n" + intro + table(["call", "meaning", "status"], rows)


if __name__ == "__main__":
    main()
