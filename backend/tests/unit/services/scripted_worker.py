"""A real process in place of the trace worker: it answers as the model type in the request says.

`fine`: a profile; `refused`: an error key; `dies`: ends without a word; `dies once`: only in its first life;
`sleeps`: never answers; `babbles`: a line that is no answer. Each life leaves a file `life-<pid>` in the folder argv[1].
"""

import json
import os
import sys
import time
from pathlib import Path

from app.contracts.trace import ProfileCall, TraceAnswer
from tests.unit.services.tracing import make_profile


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / f"life-{os.getpid()}").touch()
    lives = len(list(folder.glob("life-*")))
    for line in sys.stdin:
        request = ProfileCall.model_validate_json(line).request
        behaviour = json.loads(request.config)["model_type"]
        with (folder / "asked").open("a") as file:
            file.write(behaviour + "\n")
        if behaviour == "sleeps":
            time.sleep(600)
        if behaviour == "dies" or (behaviour == "dies once" and lives == 1):
            os._exit(1)
        if behaviour == "babbles":
            print("this is no answer", flush=True)
            continue
        answer = TraceAnswer(profile=make_profile(request))
        if behaviour == "refused":
            answer = TraceAnswer(error_key="not_traced.crashed", error_params={})
        print(answer.model_dump_json(), flush=True)


main()
