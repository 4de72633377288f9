# One Makefile; CI calls the same targets as a person does. `make help` lists them.
.DEFAULT_GOAL := help
.SUFFIXES:
# Which Python: the newest from 3.11 to 3.14 that works, unless named here. A .venv that works is kept.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

.PHONY: install
install: $(STAMP)  ## .venv with every dependency at its locked version, and the `flattr` command

$(STAMP): requirements.lock pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || { python=$$(deploy/find_python.sh $(PYTHON)) && "$$python" -m venv --clear $(VENV); }
	@echo "installing into $(VENV): $$($(BIN)/python --version) (a minute or two, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: install  ## the whole pipeline once: clicks in, payout table out, every cent explained
	@$(BIN)/flattr demo $(ARGS)

.PHONY: up
up: install  ## the stack in the foreground on the embedded broker and warehouse
	@$(BIN)/flattr up $(ARGS)

.PHONY: kafka
kafka:  ## fetch Apache Kafka from Maven Central into .kafka/ (needs Java 17 and Maven)
	@deploy/images/fetch_jars.sh kafka "$(CURDIR)/.kafka"

.PHONY: zookeeper
zookeeper:  ## fetch Apache ZooKeeper into .zookeeper/, for the tests of a warehouse of many nodes (Java 17, Maven)
	@deploy/images/fetch_jars.sh zookeeper "$(CURDIR)/.zookeeper"

.PHONY: browser
browser: node_modules/.package-lock.json  ## Debian's Chromium and npm's packages for the browser tests (needs apt-get and root)
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium >/dev/null; }

node_modules/.package-lock.json: package-lock.json
	@command -v npm >/dev/null || { apt-get update -qq && apt-get install -y -qq npm >/dev/null; }
	@npm ci --silent

.PHONY: debian
debian:  ## Debian's Prometheus, Alertmanager and nginx for the tests of alerts and of compose (needs apt-get and root)
	@command -v promtool amtool nginx >/dev/null \
	  || { apt-get update -qq && apt-get install -y -qq --no-install-recommends \
	       prometheus prometheus-alertmanager nginx-light iproute2 >/dev/null; }

.PHONY: kubernetes
kubernetes: install  ## fetch helm and kubernetes-validate into .kubernetes/, for the chart (Linux on x86-64)
	@deploy/kubernetes/fetch_tools.sh $(BIN)/python "$(CURDIR)/.kubernetes"

.PHONY: button
button: node_modules/.package-lock.json  ## build button.js from ingest/button
	@npm run --silent build

.PHONY: browser-size
browser-size: node_modules/.package-lock.json  ## bytes of the button: raw, gzip, brotli; fails above the bounds
	@npm run --silent build -- .button.js; status=$$?; rm -f .button.js; exit $$status

.PHONY: test
test: install  ## every test; on Apache Kafka too when `make kafka` has fetched it
	@$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

.PHONY: screenshots
screenshots: install  ## the pictures in docs/images, taken anew of the real pages (needs `make browser`)
	@FLATTR_SCREENSHOTS=1 FLATTR_REQUIRE_BROWSER=1 $(BIN)/pytest -q tests/browser/test_screenshots.py

.PHONY: check
check: install audit chart  ## format, lint, types, import contracts, the chart, known vulnerabilities
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

CHART = deploy/kubernetes/flattr
# Built-in kinds only: what the operators' resources look like is checked by tests, and by a cluster that has the operators.
.PHONY: chart
chart:  ## the Helm chart: lint, and what it renders against Kubernetes' schemas; says so when there is no helm
	@test -e .kubernetes/lock.sha256 || { echo "chart: not checked, there is no helm (make kubernetes)"; exit 0; }; \
	test ! -e .kubernetes/lock.sha256 || { \
	  .kubernetes/bin/helm lint --strict --quiet $(CHART) 2>.kubernetes/lint.log || { cat .kubernetes/lint.log; exit 1; }; \
	  .kubernetes/bin/helm template flattr $(CHART) 2>.kubernetes/lint.log >.kubernetes/rendered.yaml \
	    || { cat .kubernetes/lint.log; exit 1; }; \
	  .kubernetes/bin/kubernetes-validate --strict --quiet .kubernetes/rendered.yaml; }

.PHONY: audit
audit: install  ## known vulnerabilities of the locked dependencies; says so when it cannot ask
	@rm -f .audit.json
	@$(BIN)/pip-audit --disable-pip --require-hashes --requirement requirements.lock --progress-spinner off \
	  --timeout 5 --format json --output .audit.json >.audit.log 2>&1 \
	  || { test ! -s .audit.json || { cat .audit.json .audit.log; exit 1; }; }
	@test -s .audit.json || echo "audit: not done, the vulnerability service does not answer (.audit.log)"

# A run of some of them: make bench BENCHES="ingest traces"
BENCHES ?= streams ingest close reads hostile traces

.PHONY: bench
bench: install  ## the figures, into .bench/ and docs/figures.md (45 minutes; wants a quiet machine and `make kafka`)
	@for name in $(BENCHES); do $(BIN)/flattr bench $$name --json .bench/$$name.json || exit 1; done
	@$(BIN)/flattr bench report --readme README.md

.PHONY: test-python
test-python:  ## every test on Debian 13 and its Python 3.13, in a folder of its own (needs root and debootstrap)
	@tests/support/debian.sh $(ARGS)

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock"

.PHONY: lock
lock: install  ## resolve the lock files anew, for every Python and machine: versions and hashes, no addresses
	@$(COMPILE) --extra local --extra dev --output-file requirements.lock pyproject.toml >/dev/null
	@$(COMPILE) --constraint requirements.lock --output-file deploy/requirements.lock pyproject.toml >/dev/null
	@$(COMPILE) --no-deps --constraint requirements.lock --output-file deploy/kubernetes/requirements.lock deploy/kubernetes/requirements.in >/dev/null
	@for name in split bytewax; do $(COMPILE) --constraint requirements.lock --output-file benchmarks/rivals/$$name.lock benchmarks/rivals/$$name.in >/dev/null; done

.PHONY: wheels
wheels: install  ## whether every locked package has a wheel for every Python and machine (asks the package index)
	@$(BIN)/python -m tests.support.wheels

.PHONY: clean
clean:  ## remove what the targets made
	rm -rf .audit.json .audit.log $(VENV) .python node_modules .kafka .zookeeper .kubernetes .flattr .bench .pytest_cache .mypy_cache .ruff_cache *.egg-info
