# Python 3.10+ and make are all it takes: each target sets up .venv by itself, once.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.installed
WORKERS ?= 2
ARGS ?=
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && { command -v "$$p"; break; }; done)

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## A tour that needs no key, camera or network, and ends by itself
	@$(VENV)/bin/llmcam demo $(ARGS)

serve: $(READY)  ## The chat page with the sample camera, on 127.0.0.1
	@$(VENV)/bin/llmcam serve --demo $(ARGS)

test: $(READY)  ## Every notebook, every test, and the check that everything is in step
	@$(PY) -m pytest tests -n $(WORKERS) -q -rs --durations=8 $(ARGS)

docs: $(READY)  ## Build the documentation into _docs/index.html
	@$(PY) tools/build_docs.py $(ARGS)

bench: $(READY)  ## Run the measurements in benchmarks/ and keep their tables in benchmarks/results/
	@mkdir -p benchmarks/results; set -e; for f in benchmarks/bench_*.py; do \
		echo "== $$f"; table="benchmarks/results/$$(basename "$$f" .py | sed s/bench_//).md"; \
		$(PY) "$$f" $(ARGS) >"$$table.new"; mv "$$table.new" "$$table"; cat "$$table"; done

nbs: $(READY)  ## Run all notebooks, save their outputs, then bring everything in step
	@$(PY) tools/run_nbs.py $(ARGS)
	@$(MAKE) --no-print-directory export

export: $(READY)  ## Bring the package and the README in step with the notebooks
	@$(VENV)/bin/nbdev_export && $(VENV)/bin/nbdev_clean && $(PY) tools/make_readme.py

clean:  ## Remove what was built, and .venv
	rm -rf $(VENV) _docs _proc build dist *.egg-info .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@test -n "$(PYTHON)" || { echo "llmcam needs Python 3.10 or newer on the PATH; or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "This Python cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }

# A machine without a display may lack the libraries that opencv-python links to: the headless build of the same version does not.
$(READY): $(PY) settings.ini setup.py pyproject.toml
	@echo "Installing llmcam in $(VENV): once, a few minutes"
	@$(PY) -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@$(PY) -c "import cv2" 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
		"opencv-python-headless==$$($(PY) -c 'from importlib.metadata import version; print(version("opencv-python"))')"
	@touch $@

.PHONY: help demo serve test docs bench nbs export clean
