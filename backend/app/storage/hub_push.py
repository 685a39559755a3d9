"""Send the files of an export to the model hub as one commit. The address and the token are those of storage/hub.py."""

import os
from collections.abc import Mapping
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from app.core.errors import HubUnreachable, Invalid
from app.storage.hub import hub_endpoint, is_offline
from app.storage.model_files import MODEL_ID

MESSAGE = "Upload with Affinage"


def push_files(repo_id: str, files: Mapping[str, Path], *, private: bool) -> str:
    """Make the repository if there is none, commit `files` (by their names there), and return its address.

    Files that lie there already with the same content are not sent again. Raise Invalid (`repo_id`, `hub_token`) and
    HubUnreachable (`offline_push`, `push`).
    """
    endpoint = hub_endpoint()
    if not MODEL_ID.fullmatch(repo_id) or ".." in repo_id or "/" not in repo_id:
        raise Invalid("repo_id", repo_id=repo_id)
    if is_offline():
        raise HubUnreachable("offline_push", repo_id=repo_id)
    token = os.environ.get("HF_TOKEN")
    if not token:
        raise Invalid("hub_token", endpoint=endpoint)
    api = HfApi(endpoint=endpoint, token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in sorted(files.items())]
        api.create_commit(repo_id, operations=operations, commit_message=MESSAGE)
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise Invalid("hub_refused", endpoint=endpoint, repo_id=repo_id, status=status) from error
        raise HubUnreachable("push", endpoint=endpoint, repo_id=repo_id, reason=f"HTTP {status}") from error
    except HFValidationError as error:
        raise Invalid("repo_id", repo_id=repo_id) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, RuntimeError) as error:
        raise HubUnreachable("push", endpoint=endpoint, repo_id=repo_id, reason=type(error).__name__) from error
    return f"{endpoint}/{repo_id}"
