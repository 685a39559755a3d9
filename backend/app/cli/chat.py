"""`affinage chat`: talk to a tuned model, beside the original if wanted."""

from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.flags import JsonFlag
from app.cli.jobs import JobId
from app.cli.terminal import Terminal

if TYPE_CHECKING:
    from app.contracts.chat import Generation
    from app.contracts.dataset import Message
    from app.services.studio import Studio

STYLES = {"tuned": "green", "base": "dim"}


def chat(
    context: typer.Context,
    job_id: JobId,
    prompt: Annotated[str | None, typer.Argument(help="One question; without it a conversation begins.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Ask the original model too.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 = always the likeliest word.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Keep the likeliest words whose chances add up to this.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    _json: JsonFlag = False,
) -> None:
    """Ask the tuned model; without a prompt, hold a conversation."""
    terminal: Terminal = context.obj
    from app.cli.jobs import resolve
    from app.contracts.chat import Generation
    from app.contracts.dataset import Message
    from app.core.settings import Settings
    from app.services.studio import open_studio

    generation = Generation(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    studio = open_studio(Settings())
    with studio.database.reading() as session:
        found = resolve(session, job_id)
    if prompt is None and terminal.as_json:
        raise typer.BadParameter(terminal.say("chat_needs_prompt"), param_hint="PROMPT")
    if prompt is not None:
        answers = ask(studio, terminal, found, [Message(role="user", content=prompt)], generation, compare)
        terminal.document({"job_id": found, "prompt": prompt, "answers": answers})
        return
    terminal.print(f"[dim]{terminal.say('chat_intro')}[/]")
    turns: list[Message] = []
    while question := read_question(terminal):
        turns.append(Message(role="user", content=question))
        answers = ask(studio, terminal, found, turns, generation, compare)
        turns.append(Message(role="assistant", content=answers["tuned"]))


def read_question(terminal: Terminal) -> str:
    """Return the next question; "" at the end of the conversation (empty line, Ctrl-D, Ctrl-C)."""
    try:
        return terminal.console.input("\n[bold cyan]›[/] ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def ask(
    studio: "Studio", terminal: Terminal, job_id: str, turns: "list[Message]", generation: "Generation", compare: bool
) -> dict[str, str]:
    """Print the answers while they come; return each by target (`tuned`, `base`)."""
    from app.core.messages import localise
    from app.services import inference_service

    with studio.database.reading() as session:
        questions = inference_service.prepare(studio, session, job_id, messages=turns, generation=generation, compare=compare)
    answers: dict[str, str] = {}
    speaking = ""
    for delta in chain.from_iterable(inference_service.answer_one(studio, question) for question in questions):
        if delta.error_key is not None:
            message, hint = localise(delta.error_key, terminal.language, **delta.error_params)
            terminal.report(delta.error_key.split(".")[0], message, hint)
            raise typer.Exit(1)
        if delta.waiting:
            terminal.print(f"[dim]{terminal.say('chat_waiting')}[/]")
            continue
        answers[delta.target] = answers.get(delta.target, "") + delta.delta
        if terminal.as_json:
            continue
        if compare and delta.target != speaking:
            terminal.console.print(f"\n[{STYLES.get(delta.target, 'default')}]{terminal.say('target_' + delta.target)}[/]")
        speaking = delta.target
        terminal.console.print(delta.delta, end="", markup=False, soft_wrap=True)
    if not terminal.as_json:
        terminal.console.print()
    return answers
