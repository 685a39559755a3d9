"""`python -m app.cli`, for a checkout whose .venv/bin is not on PATH."""

from app.cli import main

main()
