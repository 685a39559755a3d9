"""`make demo`: the whole flow over HTTP, as a newcomer would do it in the browser, with its promises checked at the end.

Starts the server (it stays up afterwards), imports the sample, shows the plan, fine-tunes the embedded model, and shows
loss on held-out rows and three answers before and after. Exit status 1 when the promises do not hold.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

import httpx2
from rich.markup import escape
from rich.table import Table

from app.api.schemas.jobs import JobDetail, StartedRead
from app.api.schemas.plans import PlanRead
from app.api.schemas.reports import ReportRead
from app.cli.plan_view import print_plan
from app.cli.terminal import Terminal, language_of
from app.cli.watch import open_view
from app.contracts.events import job_event
from app.core.settings import Settings
from app.core.units import format_bytes, format_seconds
from app.storage.model_store import EMBEDDED_ID
from app.storage.server_lock import ServerLock

LEAST_IMPROVEMENT = 0.25
"""Promise: the loss on held-out rows falls by at least this share."""
LEAST_FACTS = 2
"""Promise: at least this many of the three answers hold the made-up fact afterwards and did not before."""
EPOCHS = 4
"""One fewer than the automatic 5: the sample is learned by then, and two slow cores stay below five minutes."""
START_SECONDS = 60
ANSWER_TOKENS = 60


class DemoFailed(Exception):
    """The demo cannot go on; the text says why and what to do."""


@dataclass(frozen=True)
class Question:
    """One question of assets/demo_questions.json and the made-up fact that answers it."""

    text: str
    fact: str

    def answered_by(self, answer: str) -> bool:
        """Whether the fact stands in `answer`."""
        return self.fact.casefold() in answer.casefold()


class Server:
    """The server of this data folder: one that already runs, or a new one that outlives the demo."""

    def __init__(self, terminal: Terminal, settings: Settings, port: int) -> None:
        self.terminal = terminal
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        lock = ServerLock(settings.data_dir)
        owner = lock.owner() if lock.held() else None
        if owner is not None and owner.get("address", "").startswith("http"):
            self.address = owner["address"]
            terminal.print(f"  [dim]Using the server that already runs at[/] {self.address}")
            return
        self.address = f"http://127.0.0.1:{port}"
        self.refuse_foreign(port)
        self.start(port)

    def refuse_foreign(self, port: int) -> None:
        """Say so when another program, or the server of another data folder, has the port."""
        try:
            answer = httpx2.get(f"{self.address}/api/health", timeout=3)
        except httpx2.ConnectError:
            return
        except httpx2.HTTPError:
            raise DemoFailed(f"Another program uses port {port}. Choose another one: make demo PORT={port + 1}") from None
        affinage = "application/json" in answer.headers.get("content-type", "") and "version" in answer.text
        what = "An Affinage server of another data folder" if affinage else "Another program"
        raise DemoFailed(f"{what} uses port {port}. Stop it, or choose another port: make demo PORT={port + 1}")

    def start(self, port: int) -> None:
        """Start the server in its own session and wait until it answers."""
        log = self.settings.data_dir / "logs" / "server.log"
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        began = time.monotonic()
        while time.monotonic() - began < START_SECONDS:
            try:
                if httpx2.get(f"{self.address}/api/health", timeout=2).status_code == 200:
                    self.terminal.print(f"  [green]✓[/] Server at {self.address}  [dim]{time.monotonic() - began:.1f} s[/]")
                    return
            except httpx2.HTTPError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        self.stop()
        raise DemoFailed(f"The server did not start:\n{tail}\nThe whole log is in {log}.")

    def stop(self) -> None:
        """Stop the server if this demo started it."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()


class Demo:
    """The steps, in order."""

    def __init__(self, terminal: Terminal, client: httpx2.Client) -> None:
        self.terminal = terminal
        self.client = client

    def call(self, method: str, path: str, **arguments: object) -> httpx2.Response:
        """Return the answer of one call; raise DemoFailed with the server's own sentence."""
        answer = self.client.request(method, path, **arguments)  # type: ignore[arg-type]
        if answer.status_code >= 400:
            error = answer.json()["error"]
            raise DemoFailed(f"{error['message']} {error['hint']}")
        return answer

    def import_sample(self) -> str:
        """Return the id of the sample's data set, imported now or by an earlier demo."""
        found = self.call("POST", "/api/datasets/sample").json()
        splits = found["splits"]
        self.terminal.print(
            f"  [green]✓[/] {found['name']}: {found['rows']} questions and answers of a made-up company's help desk, "
            f"{splits['train']} to train on, {splits['heldout']} held out"
        )
        return str(found["dataset_id"])

    def train(self, body: dict[str, str | int]) -> tuple[JobDetail, ReportRead]:
        """Start the job, show its progress, return how it ended."""
        started = StartedRead.model_validate(self.call("POST", "/api/start-finetuning", json=body).json())
        with open_view(self.terminal) as view:
            for event in self.follow(started.job_id):
                view.show(job_event.validate_json(event))
        detail = JobDetail.model_validate(self.call("GET", f"/api/jobs/{started.job_id}").json())
        if detail.status != "succeeded":
            reason = f"{detail.error.message} {detail.error.hint} {detail.error.evidence}" if detail.error else detail.status
            raise DemoFailed(f"The training did not succeed: {reason}")
        return detail, ReportRead.model_validate(self.call("GET", f"/api/jobs/{started.job_id}/report").json())

    def follow(self, job_id: str) -> Iterator[str]:
        """Yield the job's events as JSON, from the first to the last."""
        with self.client.stream("GET", f"/api/jobs/{job_id}/events", timeout=None) as stream:
            yield from read_events(stream)

    def ask(self, job_id: str, question: Question) -> tuple[str, str]:
        """Return the answers of the original and of the tuned model."""
        answers = {"base": "", "tuned": ""}
        body = {"prompt": question.text, "compare": True, "max_new_tokens": ANSWER_TOKENS}
        with self.client.stream("POST", f"/api/jobs/{job_id}/chat", json=body, timeout=None) as stream:
            for data in read_events(stream):
                delta = json.loads(data)
                if delta.get("error"):
                    raise DemoFailed(f"{delta['error']['message']} {delta['error']['hint']}")
                answers[delta["target"]] += delta["delta"]
        return answers["base"].strip(), answers["tuned"].strip()


def read_events(stream: httpx2.Response) -> Iterator[str]:
    """Yield the data of each Server-Sent Event."""
    for line in stream.iter_lines():
        if line.startswith("data:"):
            yield line.removeprefix("data:").strip()


def load_questions() -> list[Question]:
    """Return the three questions of the sample."""
    loaded = json.loads(files("app.assets").joinpath("demo_questions.json").read_text("utf-8"))
    return [Question(entry["question"], entry["fact"]) for entry in loaded]


def print_result(terminal: Terminal, detail: JobDetail, report: ReportRead) -> None:
    """Print the loss before and after, and what the job took."""
    before, after = report.loss_before or 0.0, report.loss_after or 0.0
    widest = 40
    for label, loss, style in (("before", before, "dim"), ("after", after, "green")):
        cells = round(widest * loss / max(before, after, 1e-9))
        terminal.print(f"  {label:<7}[{style}]{'█' * cells}[/] {loss:.3f}")
    terminal.print(
        f"  [bold]{report.improvement or 0:.0%}[/] less loss on {report.heldout_rows} rows that it never saw  "
        f"[dim]{report.steps} steps, {report.tokens:,} tokens in {format_seconds(report.seconds)}, "
        f"peak {format_bytes(report.peak_bytes)}[/]"
    )
    terminal.print(f"  [dim]Adapter in {detail.adapter_path}[/]")


def compare_answers(terminal: Terminal, demo: Demo, job_id: str) -> int:
    """Ask the questions, print both answers side by side, return how many facts were learned."""
    learned = 0
    table = Table(box=None, padding=(0, 2, 1, 2), header_style="dim", expand=terminal.console.is_terminal)
    table.add_column("Question", ratio=3)
    table.add_column("Before", ratio=4)
    table.add_column("After", ratio=4)
    with terminal.console.status("  Asking the original and the tuned model"):
        for question in load_questions():
            before, after = demo.ask(job_id, question)
            known, knows = question.answered_by(before), question.answered_by(after)
            learned += knows and not known
            table.add_row(
                escape(question.text),
                f"{'[green]✓[/]' if known else '[red]✗[/]'} [dim]{escape(before)}[/]",
                f"{'[green]✓[/]' if knows else '[red]✗[/]'} {escape(after)}",
            )
    terminal.print(table)
    return learned


def run(terminal: Terminal, server: Server) -> bool:
    """Go through the steps; return whether the promises hold."""
    with httpx2.Client(base_url=server.address, timeout=120, headers={"Accept-Language": terminal.language}) as client:
        demo = Demo(terminal, client)
        body: dict[str, str | int] = {
            "dataset_id": demo.import_sample(),
            "model_name": EMBEDDED_ID,
            "num_epochs": EPOCHS,
        }
        heading(terminal, "Plan")
        print_plan(terminal, PlanRead.model_validate(demo.call("POST", "/api/plans", json=body).json()))
        heading(terminal, "Training")
        detail, report = demo.train(body)
        heading(terminal, "Result")
        print_result(terminal, detail, report)
        heading(terminal, "The same questions before and after")
        learned = compare_answers(terminal, demo, detail.job_id)
    promises = [
        ((report.improvement or 0) >= LEAST_IMPROVEMENT, f"loss on held-out rows fell by at least {LEAST_IMPROVEMENT:.0%}"),
        (learned >= LEAST_FACTS, f"{learned} of 3 made-up facts learned, at least {LEAST_FACTS} promised"),
    ]
    for kept, promise in promises:
        terminal.print(f"  {'[green]✓[/]' if kept else '[red]✗[/]'} {promise}")
    return all(kept for kept, _ in promises)


def heading(terminal: Terminal, text: str) -> None:
    """Print the title of a step."""
    terminal.print(f"\n[bold cyan]{text}[/]")


def main() -> int:
    """Run the demo; 0 when every promise holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--exit", action="store_true", help="stop the server at the end")
    arguments = parser.parse_args()
    terminal = Terminal(as_json=False, language=language_of(os.environ))
    began = time.monotonic()
    server = None
    try:
        heading(terminal, "Server and data")
        server = Server(terminal, Settings(), arguments.port)
        kept = run(terminal, server)
    except DemoFailed as failure:
        terminal.errors.print(f"\n[bold red]demo stopped:[/] {escape(str(failure))}", soft_wrap=True)
        kept = False
    except KeyboardInterrupt:
        terminal.print("\n  Interrupted.")
        kept = False
    terminal.print(f"\n  [dim]{format_seconds(time.monotonic() - began)} in all.[/]")
    if server is None:
        return 1
    if arguments.exit:
        server.stop()
        terminal.print("  [dim]The server was stopped.[/]" if server.process else f"  The server at {server.address} goes on.")
    else:
        page = server.address.replace("127.0.0.1", "localhost")
        terminal.print(f"  Go on in the browser: [bold]{page}[/]")
        if server.process is not None:
            terminal.print(f"  [dim]The server stays up; stop it with: kill {server.process.pid}[/]")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
