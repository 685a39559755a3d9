"""What the reader of a chat sees when the worker dies or a training comes first; the worker's end of the socket is ours."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.contracts.chat import ChatDelta, GenerateCommand, Generation
from app.contracts.dataset import Message
from app.core.settings import Settings
from app.services import inference_service
from app.services.inference_service import Question
from app.services.studio import Studio, open_studio

HELLO = [ChatDelta(target="tuned", delta="Hello"), ChatDelta(target="tuned", finished=True, tokens=1)]
DEVICE_NEEDED = [ChatDelta(target="tuned", finished=True, error_key="conflict.device_needed")]


class Worker:
    """Listens where the chat worker would and answers each command with the next script; an empty one hangs up."""

    def __init__(self, path: Path, scripts: list[list[ChatDelta]]) -> None:
        self.commands = 0
        self._scripts = scripts
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                if not stream.readline():
                    continue  # only a look whether somebody listens
                self.commands += 1
                for delta in self._scripts[self.commands - 1]:
                    stream.write(delta.model_dump_json().encode() + b"\n")
                stream.flush()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    opened = open_studio(Settings(data_dir=tmp_path_factory.mktemp("s")))
    yield opened
    opened.database.close()


def ask(studio: Studio, scripts: list[list[ChatDelta]]) -> tuple[list[ChatDelta], int]:
    """Return the deltas that the reader gets, and how often the worker was asked."""
    worker = Worker(studio.workers.socket_path("cpu"), scripts)
    command = GenerateCommand(
        target="tuned",
        model_path="/m",
        adapter_path=None,
        dtype="float32",
        messages=[Message(role="user", content="Hi")],
        generation=Generation(),
    )
    try:
        return list(inference_service.answer(studio, [Question("cpu", command)])), worker.commands
    finally:
        worker.close()


def test_an_answer_passes_through(studio: Studio) -> None:
    assert ask(studio, [HELLO]) == (HELLO, 1)


def test_a_worker_that_dies_before_its_first_word_is_asked_once_more(studio: Studio) -> None:
    assert ask(studio, [[], HELLO]) == (HELLO, 2)


def test_a_worker_that_dies_twice_is_reported(studio: Studio) -> None:
    deltas, asked = ask(studio, [[], []])
    assert asked == 2
    assert [(delta.finished, delta.error_key) for delta in deltas] == [(True, "worker_killed.chat")]


def test_an_answer_that_breaks_off_is_not_begun_again(studio: Studio) -> None:
    deltas, asked = ask(studio, [HELLO[:1]])
    assert asked == 1
    assert deltas[0] == HELLO[0] and deltas[-1].error_key == "worker_killed.chat"


def test_an_answer_that_a_training_stopped_before_its_first_word_is_asked_for_again(studio: Studio) -> None:
    assert ask(studio, [DEVICE_NEEDED, HELLO]) == (HELLO, 2)


def test_an_answer_that_a_training_cuts_short_says_so(studio: Studio) -> None:
    deltas, asked = ask(studio, [HELLO[:1] + DEVICE_NEEDED])
    assert asked == 1
    assert deltas == HELLO[:1] + DEVICE_NEEDED
