# What a newcomer types. Needs make, Python 3.11 to 3.13 with venv, and the package indexes the first time only.
#
#   make demo        a real Kafka, four services, a year of flights    (make demo ARGS="--json")
#   make test        everything, from nothing                          (make test ARGS="tests/unit -k label")
#   make check       style, types, import rules, docs in step with the code; under a minute
#   make test-fast   the tests that need no broker and take no time
#   make sim         the whole pipeline under seeded faults           (make sim SEED=7 plays one seed)
#   make chaos       five minutes of real faults on a running system   (make chaos SEED=7)
#   make bench       how fast, against bare River, Faust and Quix Streams
#   make bench-drift how soon drifts are seen, how often there is none  (ARGS="--quick")
#   make bench-loop  what alarms, races and rollouts are worth          (ARGS="--data FOLDER")
#   make format, make docs (its tables, the dashboards), make setup, make clean
#
# Everything lands in this folder (.tools, .venv). `.ci/setup` says how.

BIN := .venv/bin
TOOLS := PATH="$(CURDIR)/.tools/bin:$$PATH"
ARGS ?=
PYTHONS ?= python3.13 python3.12 python3.11 python3
export PYTHONS

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast sim chaos format docs bench bench-drift bench-loop setup clean
.PHONY: check check-format check-lint check-imports check-types check-repository

help:
	@sed -n '3,12s/^# \{0,1\}//p' Makefile

setup:
	@.ci/setup all

demo:
	@.ci/setup demo
	@$(BIN)/headrace demo $(ARGS)

test: setup
	@.ci/system-packages
	@$(TOOLS) $(BIN)/pytest $(ARGS)

test-fast: setup
	@$(BIN)/pytest -m "not slow and not broker and not network and not postgres" $(ARGS)

sim: setup
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED))

# All five steps run, whichever fails first: one look shows everything.
check: setup
	@.ci/system-packages
	@$(MAKE) --no-print-directory --keep-going check-format check-lint check-imports check-types check-repository

check-format:
	@$(BIN)/ruff format --check .

check-lint:
	@$(BIN)/ruff check .

check-imports:
	@$(BIN)/lint-imports --no-logo

check-types:
	@$(BIN)/mypy

check-repository:
	@$(TOOLS) $(BIN)/pytest -q -m "not slow and not broker and not network" tests/repo

format: setup
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

docs: setup
	@$(BIN)/python -m tests.repo.reference

chaos: setup
	@$(BIN)/python -m tests.chaos.run $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: setup
	@$(BIN)/python -m benchmarks.run $(ARGS)

bench-drift: setup
	@$(BIN)/python -m benchmarks.drift $(ARGS)

bench-loop: setup
	@$(BIN)/python -m benchmarks.loop $(ARGS)

clean:
	@rm -rf .venv .tools dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
