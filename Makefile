# One command surface for people and CI. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KAFKA_LIB := tests/kafka/lib
KAFKA_STAMP := $(KAFKA_LIB)/.fetched
TYPED := build/typed/tocsin
JUDGE := build/judge
PACKAGE := __init__.py errors.py py.typed detector models pipelines thresholds
SYSTEM_PACKAGES := prometheus prometheus-alertmanager collectd-core librdkafka1 systemd kcat openjdk-17-jre-headless maven chromium
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install system kafka demo test test-slow test-demo coverage fuzz lint format bench bench-fast bench-product bench-detection faults soak breaks docs constraints clean

help: ## show these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r constraints.txt # all are pinned: nothing to resolve
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	touch $@

install: $(STAMP) ## the virtual environment with the pinned dependencies

system: ## Debian packages that some tests need (root): Prometheus, Alertmanager, Chromium, collectd, Java, Maven, kcat, systemd
	@missing=$$(for p in $(SYSTEM_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	command -v java >/dev/null && command -v mvn >/dev/null && missing=$$(echo "$$missing" | grep -vE '^(openjdk|maven)' || true); \
	if [ -n "$$missing" ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

$(KAFKA_STAMP): tests/kafka/pom.xml
	rm -rf $(KAFKA_LIB)
	mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=lib
	touch $@

kafka: ## fetch the Apache Kafka jars for the tests (Java 17 and mvn), if they are not there
	@if command -v mvn >/dev/null && command -v java >/dev/null; then $(MAKE) --no-print-directory -s $(KAFKA_STAMP); \
	else echo "no java and mvn: tests on a real Kafka will be skipped; 'make system' (as root) installs them"; fi

demo: install ## everything on this machine: telemetry, a fault, an alert, a recalibration
	$(BIN)/tocsin demo

PYTEST := $(BIN)/python -m pytest -c tests/pytest.ini
# What waits for brokers runs four at a time; what starts daemons two, in files of their own.
WAITING := tests/contract tests/test_rigs.py $(addprefix tests/detector/test_,rekeying.py grouper.py forwarder.py tide.py seals.py) \
	$(addprefix tests/pipelines/test_,brokers_kafka.py brokers_embedded.py merging.py) tests/detector/cli/test_feedback.py
DAEMONS := tests/acceptance

test: install kafka ## all tests but the slow ones
	$(PYTEST) -m "not slow" -n 2 --dist loadfile $(WAITING:%=--ignore=%) $(DAEMONS:%=--ignore=%) tests
	$(PYTEST) -m "not slow" -n 4 --dist worksteal $(WAITING)
	$(PYTEST) -m "not slow" -n 2 --dist loadfile --timeout=600 $(DAEMONS)

test-slow: install kafka ## the containers' commands, collectd, rekeying, exactly once, a secured cluster and more (15 minutes)
	$(PYTEST) -m "slow and not demo" tests

coverage: install kafka ## which lines no test of `make test` runs
	$(PYTEST) -m "not slow" --cov --cov-config=pyproject.toml --cov-report=term:skip-covered tests

test-demo: install ## the demo, with its fault and without, end to end (10 minutes; wants an idle machine)
	$(PYTEST) -m demo tests/acceptance

FUZZ_EXAMPLES ?= 20000

fuzz: install ## damaged inputs for every reader, others in each run (an hour; FUZZ_EXAMPLES=2000 for minutes)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(PYTEST) --timeout=7200 tests/fuzz

$(TYPED): Makefile
	rm -rf $(TYPED) && mkdir -p $(TYPED)
	for part in $(PACKAGE); do ln -s "$(CURDIR)/$$part" "$(TYPED)/$$part"; done

lint: install $(TYPED) ## ruff and mypy --strict
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	cd build && MYPYPATH=typed ../$(BIN)/mypy --config-file ../pyproject.toml -p tocsin

format: install ## let ruff put the code in order
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

bench: install kafka ## throughput, latency, state, start, beside the limit and peers (an hour; ONLY=case,case; wants an idle machine)
	$(BIN)/python -m benchmarks.throughput --out build/bench.json

bench-fast: install kafka ## some of it in seconds: does it run, are the shapes right
	$(BIN)/python -m benchmarks.throughput --fast --out build/bench-fast.json

bench-product: install kafka ## what a newcomer meets: times of commands, demo, docs, a fault of this host (an hour; wants an idle machine)
	$(BIN)/python -m benchmarks.product --out build/bench-product.json

$(JUDGE)/.installed: benchmarks/detection/requirements.txt
	test -x $(JUDGE)/bin/python || $(PYTHON) -m venv $(JUDGE)
	$(JUDGE)/bin/python -m pip install --quiet --no-deps -r $<
	touch $@

bench-detection: install kafka $(JUDGE)/.installed ## detection on labelled telemetry in TOCSIN_DATA, beside floors (an hour)
	$(BIN)/python -m benchmarks.detection --out build/bench-detection.json

faults: install kafka ## faults on a real Kafka: what is lost, doubled or different after each (an hour; ONLY=case,case)
	$(BIN)/python -m benchmarks.faults --out build/faults.json

soak: install kafka ## an hour at half load with faults: memory, descriptors, and that nothing is lost (90 minutes)
	$(BIN)/python -m benchmarks.faults.soak --out build/soak.json

breaks: install kafka ## apply each named break and show that its test goes red
	$(BIN)/python tests/breaks/run.py

docs: install ## write what is made from the code: pages and the schema of alerts
	$(BIN)/python docs/generate.py

constraints: ## pin every dependency anew, with hashes
	$(BIN)/uv pip compile --quiet --all-extras --generate-hashes --no-emit-index-url --no-header --no-annotate \
	--python-version 3.11 --universal --output-file constraints.txt pyproject.toml

clean: ## remove what make made
	rm -rf $(VENV) build dist *.egg-info $(KAFKA_LIB) .pytest_cache .mypy_cache .ruff_cache .coverage .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
