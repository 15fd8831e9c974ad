# The project's words.  Each sets up what it needs: a virtual environment, and nothing outside of it.
# TORCH=... names another build of torch, as in `make demo TORCH=torch`; a torch that PYTHON has is used as it is.

PYTHON ?= python3
TORCH ?= torch==2.13.0
PROMPT ?=
SEED ?=
RUN := .venv/bin/python
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format docs web bench model clean browser

help: ## list these words
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

demo: .venv/limner ## draw a picture; PROMPT="a green frog, 3d style" and SEED=7 change it
	@.venv/bin/limner run workflows/text-to-image.json $(if $(PROMPT),--set prompt.value="$(PROMPT)") \
	  $(if $(SEED),--seed $(SEED)) --out output

test: .venv/dev ## what every change must hold to
	$(RUN) -m pytest -q -m "not long and not gpu"

test-all: .venv/dev web/node_modules browser ## what takes long as well
	$(RUN) -m pytest -q -m "long and not gpu"

lint: .venv/dev .typing/limner web/node_modules ## ruff, mypy and tsc
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy .typing/limner/core .typing/limner/nodes .typing/limner/__init__.py .typing/limner/__main__.py
	cd web && npx tsc

format: .venv/dev ## ruff, mending what it can
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: .venv/limner ## the pages that are made from the code
	$(RUN) -m limner.core.catalogue docs

web: web/node_modules ## rebuild the page that ships in web/dist
	cd web && npm run build

bench: .venv/dev ## how fast, beside diffusers
	$(RUN) tests/bench/run.py

model: .venv/dev ## rebuild the default model from the registries: data, training, score; hours
	$(RUN) -m limner.core.training.default_model

clean: ## forget what was made here
	rm -rf .venv .typing .mypy_cache .ruff_cache .pytest_cache build *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv $(if $(shell $(PYTHON) -c "import torch" 2>/dev/null && echo yes),--system-site-packages) .venv

.venv/limner: .venv/bin/python pyproject.toml
	@$(RUN) -c "import torch" 2>/dev/null || $(RUN) -m pip install -q --disable-pip-version-check "$(TORCH)"
	$(RUN) -m pip install -q --disable-pip-version-check -e .
	@touch $@

.venv/dev: .venv/limner
	$(RUN) -m pip install -q --disable-pip-version-check -e ".[dev,train]"
	@touch $@

web/node_modules: web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

browser:
	@command -v chromium >/dev/null || (apt-get update -q && apt-get install -y -q --no-install-recommends chromium)

.typing/limner:
	@mkdir -p .typing && ln -sfn .. .typing/limner
