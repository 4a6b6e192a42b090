# make demo    set up, start the control plane and a real Envoy, show traffic (DEMO_ARGS=--once ends by itself)
# make test    set up, run every check and every test, in one process more than there are cores, four at most (JOBS=1: one)
# make explore what make test tries a few examples of, with 20 times as many and a seed of its own: an hour (EXPLORE_TIMES=1 SEED=7
#              EXPLORE_ARGS=tests/units: less, the same again, some of it); what fails is printed as a line to put above the test
# make differential   the comparison of tests/differential with an nginx that is installed, 20 times as long (EXPLORE_TIMES, SEED as above)
# make kube    build a Kubernetes control plane for tests/cluster, once: 7 minutes, into ~/.cache/xds-ingress/kube (needs Go)
# make cluster start that control plane, xds and an Envoy to play with, until Ctrl-C (needs root)
# make lint    formatting, lint, types and the direction of imports only
# make oracle  every recorded answer of the real ingress-nginx, where ../shared/oracle is (ORACLE_ARGS: of its player)
# make wild    every collected manifest, where ../shared/wild is: a quarter of an hour (WILD_ARGS: of its runner)
# make bench   every measurement of bench/, three minutes on a quiet machine
# make bench-cluster   the same with a real API server: five minutes, needs root and what make kube builds
# make docs    write the generated pages of docs/ anew
# make protos  compile protos/ into Python messages
# make sbom    list what an installation consists of, as CycloneDX, in build/sbom.cdx.json
# make lock    write requirements.lock anew, from what pyproject.toml allows today

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check
PYTEST_ARGS ?=
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); [ "$$n" -lt 4 ] && echo "$$((n + 1))" || echo 4)
EXPLORE_TIMES ?= 20
EXPLORE_ARGS ?=
SEED ?= $(shell date +%s)

.PHONY: bench bench-cluster compiled demo test explore differential oracle wild kube cluster lint docs protos sbom lock clean

demo: $(VENV)/demo
	@$(BIN)/python examples/demo.py $(DEMO_ARGS)

test: $(VENV)/test
	@$(MAKE) --no-print-directory --jobs 2 lint compiled
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup --no-loadscope-reorder $(PYTEST_ARGS)

oracle: $(VENV)/test
	@$(BIN)/python -m tests.oracle $(ORACLE_ARGS)

wild: $(VENV)/test
	@$(BIN)/python -m tests.wild $(WILD_ARGS)

explore: $(VENV)/test
	HYPOTHESIS_PROFILE=explore XDS_EXPLORE_TIMES=$(EXPLORE_TIMES) $(BIN)/python -m pytest -m "hypothesis and not envoy" \
		--timeout=0 --hypothesis-seed=$(SEED) $(EXPLORE_ARGS)

differential: $(VENV)/test
	HYPOTHESIS_PROFILE=explore XDS_EXPLORE_TIMES=$(EXPLORE_TIMES) $(BIN)/python -m pytest --timeout=0 --hypothesis-seed=$(SEED) \
		tests/differential

kube:
	@tests/cluster/build

cluster: $(VENV)/test
	@$(BIN)/python -m tests.cluster

# Hundreds of processes start, and each that runs tests reads them all; where Python writes no bytecode, each would compile them anew.
# What cannot be collected is shown by the tests.
compiled: $(VENV)/test
	@$(BIN)/python -m compileall -q xds
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only --quiet >/dev/null || true

lint: $(VENV)/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/test
	@$(BIN)/python -m bench

bench-cluster: $(VENV)/test
	@$(BIN)/python -m bench.cluster

docs: $(VENV)/test
	$(BIN)/python -m xds.cli.manual flags > docs/flags.md
	$(BIN)/python -m xds.cli.manual metrics > docs/metrics.md
	$(BIN)/python -m xds.cli.man_page > docs/xds.1
	$(BIN)/python -m xds.nginx.manual annotations > docs/annotations.md
	$(BIN)/python -m xds.nginx.manual configmap > docs/configmap.md
	$(BIN)/python -m xds.nginx.manual snippets > docs/snippets.md
	$(BIN)/python -m tests.packaging.licences > docs/licences.md

protos: $(VENV)/protos
	PATH="$(CURDIR)/$(VENV)/protos/bin:$$PATH" $(VENV)/protos/bin/python protos/compile.py

sbom: $(VENV)/test
	@$(BIN)/python -m tests.packaging.sbom build

lock:
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --editable '.[test]'
	$(BIN)/pip freeze --exclude-editable > requirements.lock

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "xds needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: $(VENV)/bin/python pyproject.toml requirements.lock
	$(PIP) install --editable '.[envoy]' --constraint requirements.lock
	@touch $@

$(VENV)/test: $(VENV)/bin/python pyproject.toml requirements.lock
	$(PIP) install --editable '.[test]' --constraint requirements.lock
	@touch $@ $(VENV)/demo

# by itself: the compiler wants a ruff of its own
$(VENV)/protos: $(VENV)/bin/python
	$(PYTHON) -m venv $@
	$@/bin/pip --quiet --disable-pip-version-check install 'betterproto2_compiler>=0.9,<0.10' 'grpcio-tools>=1.70,<2'

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
