# `make demo` and `make test` work as the first command on a fresh machine.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.PHONY: demo test slow lint soak bench spec clean
demo: $(READY)
	$(BIN)/validator-node testnet $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

slow: $(READY)
	$(BIN)/python -m pytest -m slow $(ARGS)
	$(BIN)/python -m tests.attacks

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell $$(git ls-files)

soak: $(READY)
	$(BIN)/python -m tests.simulation $(ARGS)

bench: $(READY)
	$(BIN)/python -m tests.benchmarks $(ARGS)

$(READY): tools/setup pyproject.toml constraints.txt
	sh tools/setup $(VENV)

spec: $(READY)
	sh tools/spec

clean:
	rm -rf $(VENV) build *.egg-info
