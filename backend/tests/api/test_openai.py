"""OpenAI's interface, spoken to by the scripts in examples/ as they stand, and by the official client with strict validation.

One live server, one chat worker and three trainings for everything: what a script has trained is what the questions go to.
"""

import base64
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.api.test_jobs import wait_for
from tests.api.test_live_server import LiveServer

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
NODE_MODULES = ROOT / "frontend" / "node_modules"
QUESTION: list[Any] = [{"role": "system", "content": "You sort mail."}, {"role": "user", "content": "A parcel for Oslo, please."}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[LiveServer]:
    live = LiveServer(
        tmp_path_factory.mktemp("openai") / "data",
        model_roots=str(tiny_model.parent),
        openai_models=f"gpt-4o-mini*={tiny_model}, gpt-3.5-turbo=/nowhere",
        trace_plans="false",
    )
    live.start()
    yield live
    live.close()


@pytest.fixture(scope="module")
def client(server: LiveServer) -> OpenAI:
    return OpenAI(
        api_key="any",
        base_url=f"http://127.0.0.1:{server.port}/v1",
        max_retries=0,
        _strict_response_validation=True,
    )


def upload(client: OpenAI, name: str) -> str:
    return client.files.create(file=(name, (EXAMPLES / name).read_bytes()), purpose="fine-tune").id


def run(command: list[str], server: LiveServer, folder: Path) -> str:
    """Run a script as somebody does who has only changed the address; return what it printed."""
    environment = {**os.environ, "OPENAI_BASE_URL": f"http://127.0.0.1:{server.port}/v1", "OPENAI_API_KEY": "any"}
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def find_node() -> str | None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import node
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    found = node.find_node()
    return str(found) if found else None


@pytest.fixture(scope="module")
def said(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What examples/finetune.py prints: it trains with a validation file and asks the result."""
    return run([sys.executable, str(EXAMPLES / "finetune.py")], server, tmp_path_factory.mktemp("script"))


@pytest.fixture(scope="module")
def tuned(client: OpenAI, said: str) -> FineTuningJob:
    """The job of examples/finetune.py."""
    return client.fine_tuning.jobs.retrieve(said.removeprefix("job ").split(" ", 1)[0])


def test_the_python_script_trains_and_asks(said: str) -> None:
    assert ":affinage:mail:job-" in said and " says: " in said
    whole = said.split(" says: ", 1)[1].split("\ntokens:", maxsplit=1)[0]
    assert said.rstrip("\n").endswith(f"streamed: {whole}".rstrip("\n")), "the stream says the same as the whole answer"


def test_the_javascript_script_trains_on_pairs_and_asks(client: OpenAI, server: LiveServer, tmp_path: Path) -> None:
    node = find_node()
    if node is None or not (NODE_MODULES / "openai").is_dir():
        pytest.skip("Node or its packages are not installed (make setup)")
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)

    said = run([node, "examples/finetune.mjs"], server, tmp_path)

    assert ":affinage:polite:job-" in said and " says: " in said and "streamed: " in said
    done = client.fine_tuning.jobs.retrieve(said.removeprefix("job ").split(" ", 1)[0])
    assert done.method is not None and done.method.type == "dpo"
    assert done.fine_tuned_model and done.fine_tuned_model.endswith(done.id)


def test_a_file_of_rows_is_a_data_set_and_comes_back_as_it_was(client: OpenAI, server: LiveServer) -> None:
    file_id = upload(client, "mail.jsonl")

    found = client.files.wait_for_processing(file_id)
    assert (found.status, found.purpose, found.bytes) == ("processed", "fine-tune", (EXAMPLES / "mail.jsonl").stat().st_size)
    assert client.files.content(file_id).content == (EXAMPLES / "mail.jsonl").read_bytes()
    assert server.client.get(f"/api/datasets/{file_id}").json()["rows"] == 20
    assert file_id in [file.id for file in client.files.list(purpose="fine-tune")]
    assert client.files.delete(file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file_id)


def test_files_are_listed_page_by_page(client: OpenAI) -> None:
    made = {upload(client, "mail.jsonl") for _ in range(3)}

    listed = [file.id for file in client.files.list(limit=2)]

    assert len(listed) == len(set(listed))
    assert made <= set(listed)


def test_files_for_other_purposes_and_files_without_rows_are_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=("rows.jsonl", b"{}"), purpose="batch")
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("rows.jsonl", b""), purpose="fine-tune")
    assert caught.value.body["type"] == "invalid_request_error"  # type: ignore[index]


def test_a_job_says_what_was_asked_and_what_came_of_it(
    client: OpenAI, server: LiveServer, tuned: FineTuningJob, tiny_model: Path
) -> None:
    assert tuned.status == "succeeded"
    assert tuned.model == str(tiny_model)
    assert tuned.fine_tuned_model == f"ft:{tiny_model}:affinage:mail:{tuned.id}"
    assert (tuned.hyperparameters.n_epochs, tuned.hyperparameters.batch_size) == (3, 4)
    assert tuned.method is not None and tuned.method.type == "supervised"
    assert tuned.trained_tokens and tuned.finished_at and tuned.finished_at >= tuned.created_at
    plain = server.client.get(f"/api/jobs/{tuned.id}").json()
    assert plain["status"] == "succeeded"
    report = server.client.get(f"/api/jobs/{tuned.id}/report").json()
    assert (report["trained_rows"], report["heldout_rows"]) == (20, 4), "the validation file is what is held out"
    assert tuned.id in [job.id for job in client.fine_tuning.jobs.list(limit=1)]


def test_events_come_newest_first_page_by_page_and_carry_the_losses(client: OpenAI, tuned: FineTuningJob) -> None:
    events = list(client.fine_tuning.jobs.list_events(tuned.id, limit=3))

    assert tuned.fine_tuned_model is not None and tuned.fine_tuned_model in events[0].message
    assert len({event.id for event in events}) == len(events) > 10
    losses = [event.data["train_loss"] for event in events if event.type == "metrics" and "train_loss" in event.data]  # type: ignore[index, operator]
    assert len(losses) == 15, "three epochs of 20 rows, 4 a step"


def test_the_curve_is_a_result_file(client: OpenAI, tuned: FineTuningJob) -> None:
    (file_id,) = tuned.result_files

    lines = base64.b64decode(client.files.content(file_id).read()).decode().splitlines()

    assert lines[0].startswith("step,train_loss")
    assert len(lines) >= 16
    assert client.files.retrieve(file_id).purpose == "fine-tune-results"
    assert file_id in [file.id for file in client.files.list(purpose="fine-tune-results")]


def test_a_checkpoint_can_be_asked_like_a_model(client: OpenAI, tuned: FineTuningJob) -> None:
    newest = next(iter(client.fine_tuning.jobs.checkpoints.list(tuned.id)))
    assert newest.step_number == 15

    answers = [
        client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=8).choices[0].message.content
        for model in (newest.fine_tuned_model_checkpoint, tuned.fine_tuned_model or "", tuned.id)
    ]

    assert answers[0] == answers[1] == answers[2]


def test_models_list_what_jobs_have_learned(client: OpenAI, tuned: FineTuningJob) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert client.models.retrieve(tuned.fine_tuned_model or "") == listed[tuned.fine_tuned_model or ""]


def test_an_answer_is_whole_or_streamed_and_both_say_the_same(client: OpenAI, tuned: FineTuningJob) -> None:
    asked: dict[str, Any] = {
        "model": tuned.fine_tuned_model,
        "messages": QUESTION,
        "temperature": 1.2,
        "seed": 5,
        "max_completion_tokens": 12,
    }
    whole = client.chat.completions.create(**asked)
    stream = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))

    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert stream[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream[:-1]) == whole.choices[0].message.content
    assert stream[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert stream[-1].usage == whole.usage
    assert len({chunk.id for chunk in stream}) == 1


def test_several_choices_differ_and_a_seed_repeats_them(client: OpenAI, tuned: FineTuningJob) -> None:
    def choices() -> list[str | None]:
        answer = client.chat.completions.create(model=tuned.id, messages=QUESTION, temperature=1.5, seed=3, n=3, max_tokens=16)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        return [choice.message.content for choice in answer.choices]

    first = choices()
    assert first == choices()
    assert len(set(first)) > 1


def test_log_probabilities_and_stop_texts(client: OpenAI, tuned: FineTuningJob) -> None:
    answer = client.chat.completions.create(
        model=tuned.id, messages=QUESTION, temperature=0, max_tokens=6, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert len(logprobs.content) == answer.usage.completion_tokens  # type: ignore[union-attr]
    assert all(len(token.top_logprobs) == 2 and token.logprob == token.top_logprobs[0].logprob for token in logprobs.content)
    assert all(0 < math.exp(token.logprob) <= 1 for token in logprobs.content)
    text = answer.choices[0].message.content or ""

    stopped = client.chat.completions.create(model=tuned.id, messages=QUESTION, temperature=0, max_tokens=6, stop=text[2:4])

    assert stopped.choices[0].message.content == text[: text.index(text[2:4])]
    assert stopped.choices[0].finish_reason == "stop"


def test_plain_texts_are_continued(client: OpenAI, tuned: FineTuningJob) -> None:
    answer = client.completions.create(model=tuned.id, prompt=["PARCEL", "LETTER"], max_tokens=5, temperature=0, echo=True, n=2)
    told = client.completions.create(model=tuned.id, prompt=["PARCEL", "LETTER"], max_tokens=5, temperature=0, logprobs=1, n=2)

    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert all(
        choice.text.startswith(start)
        for choice, start in zip(answer.choices, ["PARCEL", "PARCEL", "LETTER", "LETTER"], strict=True)
    )
    assert answer.choices[0].text == answer.choices[1].text, "greedy"
    assert [choice.text for choice in told.choices] == [choice.text[6:] for choice in answer.choices]
    assert answer.usage is not None and answer.usage.completion_tokens == sum(
        len(choice.logprobs.tokens or []) for choice in told.choices if choice.logprobs
    )
    # The client's types ask each piece for its reason to stop, which OpenAI's own stream tells in the last one alone.
    lenient = client.copy(_extra_kwargs={"_strict_response_validation": False})
    stream = lenient.completions.create(model=tuned.id, prompt="PARCEL", max_tokens=5, temperature=0, stream=True, echo=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


def test_turns_may_come_in_parts_and_from_a_developer(client: OpenAI, tuned: FineTuningJob) -> None:
    parts: list[Any] = [
        {"role": "developer", "content": [{"type": "text", "text": "You sort "}, {"type": "text", "text": "mail."}]},
        {"role": "user", "content": [{"type": "text", "text": "A parcel for Oslo, please."}]},
    ]

    answers = [
        client.chat.completions.create(model=tuned.id, messages=messages, temperature=0, max_tokens=8)
        for messages in (parts, QUESTION)
    ]

    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content


def test_openais_names_are_answered_by_the_model_that_the_settings_name(client: OpenAI, tiny_model: Path) -> None:
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, max_tokens=2)

    assert answer.model == str(tiny_model), "the answer says who spoke"
    with pytest.raises((openai.BadRequestError, openai.NotFoundError, openai.PermissionDeniedError), match="nowhere"):
        client.chat.completions.create(model="gpt-3.5-turbo", messages=QUESTION)


@pytest.mark.parametrize(
    "name, words",
    [
        ("no-such-model", "no-such-model"),
        ("ft:gpt-4o-mini-2024-07-18:my-org::7p4lURel", "fine-tuned at OpenAI"),
        ("job-unknown", "job-unknown"),
    ],
)
def test_a_name_that_nobody_has_is_not_found(client: OpenAI, name: str, words: str) -> None:
    with pytest.raises(openai.NotFoundError, match=words) as caught:
        client.chat.completions.create(model=name, messages=QUESTION)
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    "change, field",
    [
        ({"temperature": 3}, "temperature"),
        ({"n": 0}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stop": list("abcde")}, "stop"),
        ({"extra_body": {"top_k": 1}}, "top_k"),
        ({"messages": [*QUESTION, {"role": "assistant", "tool_calls": [{}]}, *QUESTION]}, "messages.2.tool_calls"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_name(
    client: OpenAI, tuned: FineTuningJob, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": tuned.id, "messages": QUESTION, **change})
    assert (caught.value.param or "").startswith(field) and "[" not in (caught.value.param or "")
    assert field in caught.value.message


def test_fields_that_change_no_answer_are_passed_over(client: OpenAI, tuned: FineTuningJob) -> None:
    passed_over: dict[str, Any] = {
        "user": "me",
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "safety_identifier": "me",
        "parallel_tool_calls": False,
        "prediction": {"type": "content", "content": "north"},
        "prompt_cache_key": "k",
        "tools": [],
        "tool_choice": "none",
        "logit_bias": {},
        "response_format": {"type": "text"},
    }
    request: dict[str, Any] = {"model": tuned.id, "temperature": 0, "max_tokens": 5}
    before = client.chat.completions.create(messages=QUESTION, **request).choices[0].message

    after = client.chat.completions.create(messages=QUESTION, **request, **passed_over).choices[0].message
    client.chat.completions.create(messages=[*QUESTION, after.model_dump(), *QUESTION], **request)  # type: ignore[list-item]

    assert after.content == before.content


@pytest.mark.parametrize("change, field", [({"echo": True, "logprobs": 1}, "echo"), ({"suffix": "end"}, "suffix")])
def test_what_a_plain_text_cannot_have_is_refused(
    client: OpenAI, tuned: FineTuningJob, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=tuned.id, prompt="PARCEL", **change)
    assert caught.value.param == field


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/fine_tuning/jobs", "/api/chat"])
def test_half_of_a_character_is_refused(server: LiveServer, tuned: FineTuningJob, path: str) -> None:
    """Python's JSON reads a lone surrogate, and nothing can write it on: it was a 500, and a broken stream."""
    body = {
        "/v1/completions": {"model": tuned.id, "prompt": "a\ud83d"},
        "/v1/fine_tuning/jobs": {"model": "gpt-4o-mini", "training_file": tuned.training_file, "suffix": "\ud83d"},
        "/api/chat": {"targets": [{"job_id": tuned.id}], "messages": [{"role": "user", "content": "a\ud83d"}]},
    }.get(path, {"model": tuned.id, "messages": [{"role": "user", "content": "a\ud83d"}]})

    answer = server.client.post(path, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})

    assert answer.status_code == 400 and "character" in answer.json()["error"]["message"]
    whole = json.dumps(body).replace("\\ud83d", "\\ud83d\\ude00").replace(tuned.id, "nobody").replace("gpt-4o-mini", "nobody")
    answer = server.client.post(path, content=whole.encode(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 404, "both halves are a character"


def test_a_prompt_longer_than_the_context_is_told_by_its_own_code(client: OpenAI, tuned: FineTuningJob) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=tuned.id, messages=[{"role": "user", "content": "owl " * 2000}])
    assert caught.value.code == "context_length_exceeded"
    stream = client.chat.completions.create(model=tuned.id, messages=[{"role": "user", "content": "owl " * 2000}], stream=True)
    with pytest.raises(openai.APIError, match="tokens"):
        list(stream)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"training_file": "file-unknown"}, "file-unknown"),
        ({"model": "no-such-model"}, "no-such-model"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "x"}}}}, "method"),
        ({"hyperparameters": {"n_epochs": 0}}, "n_epochs"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"metadata": {"k": "v" * 600}}, "metadata"),
        ({"method": {"type": "supervised", "dpo": {"hyperparameters": {"n_epochs": 7}}}}, "method.dpo"),
        (
            {
                "hyperparameters": {"n_epochs": 7},
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
            },
            "hyperparameters",
        ),
    ],
)
def test_a_job_that_cannot_be_is_refused(client: OpenAI, change: dict[str, Any], words: str) -> None:
    request = {"model": "gpt-4o-mini", "training_file": upload(client, "mail.jsonl"), **change}
    with pytest.raises(openai.APIStatusError, match=words) as caught:
        client.fine_tuning.jobs.create(**request)
    assert caught.value.status_code in (400, 404)


def test_the_older_place_of_hyperparameters_counts_beside_a_method_without_any(client: OpenAI) -> None:
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini",
        training_file=upload(client, "mail.jsonl"),
        hyperparameters={"n_epochs": 7},
        method={"type": "supervised"},
    )
    client.fine_tuning.jobs.cancel(job.id)

    assert job.hyperparameters.n_epochs == 7


def test_a_page_behind_something_unknown_is_refused(client: OpenAI, tuned: FineTuningJob) -> None:
    """It began anew: a script that went on from there saw everything twice."""
    for ask in (client.files.list, client.fine_tuning.jobs.list, partial(client.fine_tuning.jobs.checkpoints.list, tuned.id)):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(after="nothing")
        assert caught.value.param == "after"


def test_a_file_without_a_row_that_can_be_used_names_the_first_one(client: OpenAI) -> None:
    """The message pointed to details, which OpenAI's form of an error has no place for."""
    row = {"messages": [{"role": "user", "content": "A parcel"}]}
    with pytest.raises(openai.BadRequestError, match=r"row 1, column “messages”: .*no answer of the assistant") as caught:
        client.files.create(file=("rows.jsonl", b"\n".join([json.dumps(row).encode()] * 12)), purpose="fine-tune")
    assert "details" not in caught.value.message


def test_events_behind_another_jobs_event_are_refused(client: OpenAI, tuned: FineTuningJob) -> None:
    with pytest.raises(openai.BadRequestError, match="ftevent-job-other-5"):
        client.fine_tuning.jobs.list_events(tuned.id, after="ftevent-job-other-5")


def test_a_file_that_shall_expire_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(
            file=("mail.jsonl", (EXAMPLES / "mail.jsonl").read_bytes()),
            purpose="fine-tune",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
    assert caught.value.param == "expires_after"


def test_a_job_is_paused_resumed_and_cancelled_and_a_repeated_request_starts_no_other(client: OpenAI, server: LiveServer) -> None:
    request: dict[str, Any] = {
        "model": "gpt-4o-mini-2024-07-18",
        "training_file": upload(client, "mail.jsonl"),
        "suffix": "my mail!",
        "seed": 11,
        "metadata": {"team": "post"},
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1000, "batch_size": 4}}},
    }
    job = client.fine_tuning.jobs.create(**request)
    assert (job.status, job.fine_tuned_model, job.seed, job.metadata) == ("queued", None, 11, {"team": "post"})
    repeated = client.fine_tuning.jobs.create(**request, extra_headers={"x-stainless-retry-count": "1"})
    new = client.fine_tuning.jobs.create(**request)
    assert repeated.id == job.id != new.id
    client.fine_tuning.jobs.cancel(new.id)

    wait_for(server.client, job.id, "running", seconds=240)
    assert client.fine_tuning.jobs.pause(job.id).status in ("running", "queued")
    wait_for(server.client, job.id, "paused", seconds=240)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "queued"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    client.fine_tuning.jobs.cancel(job.id)
    wait_for(server.client, job.id, "cancelled", seconds=240)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.resume(job.id)


def test_pairs_in_openais_form_go_on_from_a_tuned_model(client: OpenAI, server: LiveServer, tuned: FineTuningJob) -> None:
    job = client.fine_tuning.jobs.create(
        model=tuned.fine_tuned_model or "",
        training_file=upload(client, "preferences.jsonl"),
        suffix="my pairs!",
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 1000, "learning_rate_multiplier": 2}}},
    )
    client.fine_tuning.jobs.cancel(job.id)

    assert job.method is not None and job.method.dpo is not None and job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.beta == 0.2
    assert job.hyperparameters.learning_rate_multiplier == 2
    plain = server.client.get(f"/api/jobs/{job.id}").json()
    assert plain["plan"]["resolved"]["learning_rate"]["origin"] == "user"
    written = json.loads((server.data_dir / "jobs" / job.id / "job.json").read_bytes())
    assert written["continue_from"] == tuned.id
    assert client.fine_tuning.jobs.retrieve(job.id).model == tuned.model


def test_failures_outside_the_interface_keep_the_houses_body(server: LiveServer) -> None:
    inside, outside = server.client.get("/v1/nothing"), server.client.get("/api/nothing")

    assert set(inside.json()["error"]) == {"message", "type", "param", "code"}
    assert set(outside.json()["error"]) == {"code", "message", "hint", "details"}


def test_a_validation_file_beside_rows_that_name_their_own_split_is_refused(client: OpenAI) -> None:
    rows = (json.loads(line) for line in (EXAMPLES / "mail-validation.jsonl").read_bytes().splitlines())
    own_split = b"".join(json.dumps({**row, "split": "test"}).encode() + b"\n" for row in rows)
    file_id = client.files.create(file=("split.jsonl", own_split), purpose="fine-tune").id

    with pytest.raises(openai.BadRequestError, match="split"):
        client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=upload(client, "mail.jsonl"), validation_file=file_id)
