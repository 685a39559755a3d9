# The only commands to remember. `make` alone lists them.
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
PORT ?= 8000
RUN := .venv/bin/python
NPM := $(RUN) scripts/node.py npm

.PHONY: help setup page demo start test check faults load gen bench bench-training bench-gpu test-gpu

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[36mmake %-15s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Put Python and Node packages into .venv and frontend/node_modules
	@$(PYTHON) scripts/setup.py

page: setup  ## Build the web page
	@$(RUN) scripts/page.py

demo: page  ## Fine-tune the embedded model on the sample data; leaves the server up (EXIT=1 stops it, PORT=8000)
	@$(RUN) scripts/demo.py --port $(PORT) $(if $(EXIT),--exit)

start: page  ## Serve on http://127.0.0.1:8000 until Ctrl-C
	@.venv/bin/affinage serve --port $(PORT)

check: setup  ## Lint, types, layers, generated files
	@cd backend && ../$(RUN) -m ruff check . ../scripts ../bench && ../$(RUN) -m ruff format --check . ../scripts ../bench
	@$(RUN) -m mypy --config-file backend/pyproject.toml backend/app
	@cd backend && ../.venv/bin/lint-imports
	@$(NPM) run typecheck --silent && $(NPM) run lint --silent
	@$(RUN) scripts/check_generated.py
	@echo "  Everything checked."

test: page  ## Run every test: Python, page, and the whole flow in Chromium
	@folder=$$($(RUN) scripts/postgres.py) && cd backend && AFFINAGE_TEST_POSTGRES="$$folder" ../$(RUN) -m pytest -n 2 --dist loadfile
	@$(NPM) run test --silent
	@browser=$$($(RUN) scripts/browser.py) && CHROMIUM_PATH="$$browser" $(NPM) run e2e --silent
	@echo "  Every test passed: Python, page, and the whole flow in Chromium."

faults: setup  ## Kill, freeze, damage and lock at random instants (FROM=0 N=20 JOBS=1: which schedules)
	@cd backend && ../$(RUN) -m tests.faults --from $(or $(FROM),0) --count $(or $(N),20) --jobs $(or $(JOBS),1)

load: setup  ## 10,000 jobs, a run of 1,000,000 steps, 250 clients beside a training
	@$(RUN) bench/load/measure.py --write docs/benchmarks/load.md

gen: setup  ## Write the generated files: OpenAPI, TypeScript types, reference
	@$(NPM) run gen --silent
	@$(RUN) scripts/gen_reference.py

bench: setup  ## Measure how long a person waits (docs/benchmarks)
	@$(RUN) bench/latency.py

test-gpu: setup  ## The tests that need an NVIDIA card
	@cd backend && ../$(RUN) -m pytest tests/gpu -m gpu

bench-gpu: setup  ## Training beside plain transformers + PEFT on an NVIDIA card, under 10 minutes, offline
	@$(RUN) bench/training/gpu.py --write docs/benchmarks/training-gpu.md

bench-training: setup  ## Training beside TRL and a plain loop: over an hour (QUICK=1: one round of one shape, minutes)
ifdef QUICK
	@$(RUN) bench/training/compare.py --quick
else
	@$(RUN) bench/training/scale.py
	@$(RUN) bench/training/learning.py
	@$(RUN) bench/training/compare.py --write docs/benchmarks/training-cpu.md
endif
