# Everything a person or CI does, by one word each.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Extra flags for pip, e.g. an index of your own.
PIP_FLAGS ?=
# Of the faults and the jobs of `make chaos`.
SEED ?= 1
# What BentoML and LitServe are installed into, since BentoML wants other versions than ours.
PEERS := .venv-peers
# Options of `make peers`, e.g. --quick.
ARGS ?=
# Of `make load`; SHAPE may be ramp, burst or soak.
USERS ?= 10
TIME ?= 1m
SHAPE ?=
comma := ,
# A file's tests share what its fixtures build, so they stay together; the files with the fewest
# tests are among the longest, so they don't come last. Many wait more than they compute: two cores
# have work for four processes.
PARALLEL := --numprocesses 4 --dist loadfile --no-loadscope-reorder
# So does a service, once it has started.
SERVICES := --numprocesses 2 --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help run test test-fast prometheus dashboards chaos chaos-long soak peers load nightly lint audit format clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# torch comes first: with it in place nothing else asks for another build of it.
$(VENV)/run.stamp: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check $(PIP_FLAGS) -c requirements.lock torch==2.13.0
	$(BIN)/pip install -q --disable-pip-version-check $(PIP_FLAGS) -c requirements.lock -e '.[local]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(BIN)/pip install -q --disable-pip-version-check $(PIP_FLAGS) -c requirements.lock -e '.[local,dev,load]'
	touch $@

run: $(VENV)/run.stamp ## Start the whole service on http://127.0.0.1:8000
	$(BIN)/sfumato up

test: $(VENV)/dev.stamp ## Run every test
	$(BIN)/python -m pytest $(PARALLEL) --ignore tests/service
	$(BIN)/python -m pytest $(SERVICES) tests/service

test-fast: $(VENV)/dev.stamp ## Run the tests that neither start the service nor draw real pictures
	$(BIN)/python -m pytest $(PARALLEL) -m 'not service and not model'

# Unpacked, not installed: Debian's package would start a server. Elsewhere put both programs on PATH.
$(VENV)/prometheus:
	mkdir -p $(VENV)
	cd $(VENV) && apt-get download -qq prometheus && dpkg -x prometheus_*.deb prometheus && rm prometheus_*.deb

prometheus: $(VENV)/prometheus ## Get Debian's Prometheus and promtool for this folder, without root

dashboards: $(VENV)/dev.stamp ## Write the dashboards, and draw one of a loaded service (3 minutes; needs Prometheus)
	$(BIN)/python -m loadtests.monitoring files
	$(BIN)/python -m loadtests.monitoring picture

chaos: $(VENV)/dev.stamp ## Kill 30 processes under 300 jobs, and check that nothing was lost (5 minutes)
	$(BIN)/python -m loadtests.chaos --seed $(SEED) --jobs 300 --kills 30 --minutes 4

chaos-long: $(VENV)/dev.stamp ## The same with 300 kills under 5,000 jobs (45 minutes)
	$(BIN)/python -m loadtests.chaos --seed $(SEED) --jobs 5000 --kills 300 --minutes 42

soak: $(VENV)/dev.stamp ## An even load, and whether any process grows meanwhile (20 minutes)
	$(BIN)/python -m loadtests.soak

# What is not in it is found in .venv: torch, diffusers and all the rest. So pip warns that packages of
# .venv want another OpenTelemetry; no peer imports those.
$(PEERS)/stamp: $(VENV)/dev.stamp loadtests/peers/requirements.txt
	test -x $(PEERS)/bin/python || $(BIN)/python -m venv $(PEERS)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/behind.pth"
	$(PEERS)/bin/pip install -q --disable-pip-version-check $(PIP_FLAGS) --only-binary :all: -r loadtests/peers/requirements.txt
	touch $@

peers: $(PEERS)/stamp ## Compare with plain diffusers, Ray Serve, LitServe and BentoML (hours; ARGS=--quick for minutes)
	$(BIN)/python -m loadtests.peers $(ARGS)

load: $(VENV)/dev.stamp ## People of five kinds use a running service for a minute (USERS, TIME, SHAPE)
	mkdir -p load-out
	$(BIN)/locust -f loadtests/locustfile.py$(if $(SHAPE),$(comma)loadtests/shapes/$(SHAPE).py) --headless --only-summary \
		--users $(USERS) --spawn-rate 2 --run-time $(TIME) --stop-timeout 30 --html load-out/report.html

nightly: audit chaos soak ## What is too long for each push: known vulnerabilities, 30 kills, 20 minutes of load

lint: $(VENV)/dev.stamp ## Check form, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(VENV)/run.stamp ## Look the locked versions up among known vulnerabilities (asks PyPI)
	$(BIN)/pip install -q --disable-pip-version-check $(PIP_FLAGS) -c requirements.lock -e '.[audit]'
	$(BIN)/pip-audit --strict -s pypi --no-deps --disable-pip -r requirements.lock

format: $(VENV)/dev.stamp ## Bring the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what was installed and built; data under .sfumato stays
	rm -rf $(VENV) $(PEERS) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
