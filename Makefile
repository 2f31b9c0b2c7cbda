# Set-up and the usual commands. Everything lives in .venv; a change of pyproject.toml or constraints.txt installs anew.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3 python,\
	$(shell $(name) -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && echo $(name))))

export HF_HUB_OFFLINE := 1

.PHONY: install demo test lint docs train-mini clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later with its venv module was not found. On Debian or Ubuntu:" \
		"apt-get install python3 python3-venv. Elsewhere: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo 'installing into $(VENV), once; torch is large'
	$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev,heif]'
	@touch $@

demo: $(STAMP)
	$(BIN)/wan2-i2v generate examples/demo.jsonl --output output/demo; code=$$?; \
	$(BIN)/python examples/contact_sheet.py output/demo && exit $$code

# Two test processes, each on one core: torch gains little from two cores on tensors as small as the tests'.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not heavy" --cov --cov-fail-under=90

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python -m wan2_i2v.doors.cli.reference > docs/cli.md
	$(BIN)/python -m wan2_i2v.doors.cli.grid_page docs/memory.md
	$(BIN)/python -m wan2_i2v.doors.http.reference docs/http.md

train-mini: $(STAMP)
	$(BIN)/python -m training
	$(BIN)/python benchmarks/mini_quality.py --pictures 1 --recipes rapid --sheet build/mini/sheet.png --out build/mini/quality.json

# What you made stays: output/ and input/ are never touched.
clean:
	rm -rf $(VENV) build dist src/*.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
