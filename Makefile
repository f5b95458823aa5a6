# What a user or a contributor does here, one target each. `make` alone lists them.
SUITE  ?= class
JOBS   ?= 2
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)

BIN   := .venv/bin
READY := .venv/.ready
# Two threads that spin while they wait cost many times what they save beside a busy neighbor.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup report pdf test lab classroom lint lock audit clean

help:
	@echo "make TARGET [SUITE=class] [JOBS=2] [PYTHON=python3.11]"
	@sed -n 's/^\([a-z]*\):.*## /  \1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 13

setup: $(READY)  ## make .venv with the locked versions (the other targets do this on first use)

report: $(READY)  ## train what is missing and render every notebook of SUITE (smoke, class, real, full)
	$(BIN)/python -m analysis report $(SUITE) --jobs $(JOBS)

pdf: $(READY)  ## print the pages of SUITE as PDF beside them (needs Chromium, Chrome or Edge)
	$(BIN)/python -m analysis pdf $(SUITE)

test: $(READY)  ## everything a change must pass, without the slow, GPU and benchmark tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

lab: $(READY)  ## open JupyterLab on notebooks/, for this machine alone and with its token
	$(BIN)/jupyter lab --notebook-dir=notebooks --ServerApp.ip=127.0.0.1 --ServerApp.allow_remote_access=False

classroom: $(READY)  ## one archive for a class: exercises, code and the runs of SUITE, which are trained first
	$(BIN)/python -m lib train $(SUITE)
	$(BIN)/python -m analysis classroom $(SUITE)

lint: $(READY)  ## style and types: ruff on everything, pyright on lib and analysis
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

lock: $(READY)  ## maintainers: renew requirements/lock.txt and environment.yml from pyproject.toml
	$(BIN)/python -m pip install --quiet uv==0.13.8
	$(BIN)/python requirements/lock.py --upgrade

audit: $(READY)  ## maintainers: hold the locked packages against lists of known vulnerabilities (needs the network)
	$(BIN)/python -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	.venv/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/lock.txt
	.venv/audit/bin/pip-audit --strict --disable-pip --no-deps -r requirements/torch.txt

clean:  ## remove .venv and caches; runs, reports, data and weights stay
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist
	find lib analysis tests notebooks requirements -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements/torch.txt requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is `$(PYTHON) -V 2>&1`. Name one: make PYTHON=/path/to/python3.11"; \
	  exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing PyTorch (step 1 of 3; some hundred MB, several GB where pip takes the CUDA build) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt
	@echo "Installing the locked packages (step 2 of 3; about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/lock.txt
	@echo "Installing the study itself (step 3 of 3) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@mkdir -p .venv/share/jupyter/lab/settings  # no pop-up that asks about news, no look for updates
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' \
	  > .venv/share/jupyter/lab/settings/overrides.json
	@touch $@
