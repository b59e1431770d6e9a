# Everything a newcomer needs: `make demo` to see it work, `make test` to prove it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-full arm-test systemd-test kill-test results lint types clean

$(VENV)/.installed-dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

demo: $(VENV)/.installed
	$(BIN)/mmd demo

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev
	$(BIN)/mypy

test: lint types
	$(BIN)/pytest -n 2 -m 'not slow'

test-full: lint types
	$(BIN)/pytest

# As root on Debian: emulated ARM boards; says why where it cannot run. `make arm-test ARM=--quick` runs one of the four.
# No part of .ci/run: that starts on a bare machine, which would first have to fetch 600 MB of Debian roots and aarch64
# wheels, and the emulation takes 25 minutes. Where an earlier run has left them, `make test` takes its training steps
# on one board (tests/arm/test_arm_short.py); elsewhere that test is skipped with the reason.
arm-test: $(VENV)/.installed-dev
	$(BIN)/python -m tests.arm.arm_test $(ARM)

# As root on Debian: the service under a real systemd, in a container and on an emulated machine with a kernel of its own;
# says why where it cannot run.
systemd-test: $(VENV)/.installed-dev
	$(BIN)/pytest -rs tests/system/test_systemd_boot.py tests/system/test_systemd_virtual.py

# SIGKILL at random instants to whatever writes: no acknowledged sample lost, no half model, the same final bits.
KILLS ?= 1000
kill-test: $(VENV)/.installed-dev
	$(BIN)/python -m tests.kills.campaign --kills $(KILLS)

# Every table and picture in docs/results, many hours on one core; a run that was stopped goes on. The artifacts' READMEs say
# where the files in DATA come from.
DATA ?= data
GARMENTS = $(DATA)/fashion
results: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/mmd-tools bench owners --data $(DATA) --resume
	$(BIN)/mmd-tools bench owners --partly --data $(DATA) --resume
	$(BIN)/mmd-tools bench owners --kind speech --data $(DATA)/fsdd --sets $(DATA)/speakers --resume
	$(BIN)/mmd-tools bench owners --kind motion --data $(DATA)/motion --sets $(DATA)/movers --quick --resume
	$(BIN)/mmd-tools bench mentoring --data $(DATA) --resume
	test -f $(GARMENTS)/mentor.onnx || { \
	  $(BIN)/mmd-tools prepare fashion --data $(GARMENTS) --out $(GARMENTS)/garments.npz --anchor artifacts/fashion/anchor.npz && \
	  $(BIN)/mmd-tools train --net mentor --recipe artifacts/fashion/recipe.toml --data $(GARMENTS)/garments.npz --out $(GARMENTS)/mentor.onnx; }
	$(BIN)/mmd-tools bench mentoring --dataset fashion --data $(GARMENTS) --resume

clean:
	rm -rf $(VENV) build dist demo report.html
