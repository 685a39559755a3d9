"""Print the OpenAPI document of the server as sorted JSON; `make gen` turns it into TypeScript."""

import json
import sys

from app.main import create_app

if __name__ == "__main__":
    sys.stdout.write(json.dumps(create_app().openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n")
