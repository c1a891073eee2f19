# `make` lists the targets. The first one that needs the environment builds it in .venv; later ones reuse it.
#
#   PYTHON=python3.12   the interpreter to build with; a .venv of another version is built anew.
#                       Without it: the .venv that stands, else the first Python on the path that the package supports.
#   VENV=.venv-3.12     another folder for the environment, to keep several side by side.
#   ARGS="-k limits"    more arguments for pytest.

VENV ?= .venv
BIN := $(VENV)/bin
VERSION_OF := import sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 14) or sys.exit(1); print("%d.%d" % v)

ifndef PYTHON
PYTHON := $(shell for p in $(BIN)/python python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(VERSION_OF)' >/dev/null 2>&1 && { echo $$p; break; }; done)
endif
VERSION := $(if $(PYTHON),$(shell $(PYTHON) -c '$(VERSION_OF)' 2>/dev/null))

# The stamp names the Python version and holds the checkout's folder: a moved or copied checkout installs again.
STAMP := $(VENV)/.installed-$(VERSION)
READY := $(shell $(BIN)/python -c '' 2>/dev/null && [ "$$(cat $(STAMP) 2>/dev/null)" = "$(CURDIR)" ] && echo yes)

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types docs clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## build the environment in .venv (the other targets do it when it is needed)

$(STAMP): pyproject.toml constraints.txt $(if $(READY),,FORCE)
	@[ -n "$(VERSION)" ] || { echo "$(or $(PYTHON),python3) is missing or not Python 3.11, 3.12 or 3.13: name one, as in make install PYTHON=python3.12" >&2; exit 1; }
	@if [ "$$($(BIN)/python -c '$(VERSION_OF)' 2>/dev/null)" != "$(VERSION)" ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "making $(VENV) with Python $(VERSION)"; \
		$(PYTHON) -m venv --clear $(VENV); \
	fi
	@echo "installing into $(VENV) (a few minutes; torch is large)"
	@$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@echo "installed into $(VENV)"
	@echo "$(CURDIR)" > $@

demo: $(STAMP) ## train and evaluate a small model, in a fresh folder under runs/
	@run=runs/demo; n=1; while [ -e $$run ]; do n=$$((n + 1)); run=runs/demo-$$n; done; \
	set -ex; \
	$(BIN)/pyro-simvae fit --config configs/demo.yaml --out $$run; \
	$(BIN)/pyro-simvae evaluate $$run

test: $(STAMP) ## run the tests
	$(BIN)/python -P -m pytest $(ARGS)

lint: $(STAMP) ## check style and formatting
	$(BIN)/python -P -m ruff check .
	$(BIN)/python -P -m ruff format --check .

# models/ and guides/ are installed as pyro_simvae.models and pyro_simvae.guides; mypy, which reads folders, is shown
# the package in that shape, through links.
types: $(STAMP) ## check the types of the package, models and guides
	@rm -rf build/types && mkdir -p build/types/pyro_simvae
	@cd build/types/pyro_simvae && ln -s ../../../pyro_simvae/* ../../../models ../../../guides .
	@bin=$$(cd $(BIN) && pwd); set -x; cd build/types; \
	"$$bin/python" -P -m mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p pyro_simvae

docs: $(STAMP) ## renew what README.md and docs/methods.md say of the limits, from their claims
	$(BIN)/python -P -m pyro_simvae.limits.methods .

clean: ## remove .venv, builds and caches (runs and data stay)
	@[ ! -e $(VENV) ] || [ -e $(VENV)/pyvenv.cfg ] || { echo "$(VENV) is not a virtual environment" >&2; exit 1; }
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path './.venv*' -prune -o -name __pycache__ -prune -exec rm -rf {} +
