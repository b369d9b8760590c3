# What is needed to start with: make, git, Python 3.11 and, on a bare Debian, root. Everything else is fetched by `make setup`.

SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH):$(CURDIR)/.servers/bin

.DEFAULT_GOAL := help
.PHONY: help setup venv servers node demo test test-brokers test-faults brokers lint bench chaos clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: venv servers node ## the virtual environment, RabbitMQ and MongoDB, where they are missing

demo: venv servers ## three instances, 350 jobs and both servers on this machine, live in the terminal
	cronexec dev deploy/demo/jobs.yaml deploy/demo/crontab

# Most tests wait more than they compute, so there are more workers than cores, each with servers of its own. What keeps the
# machine busy for long comes after them, a worker a core.
WORKERS ?= 4
LOAD_WORKERS ?= 2

test: setup ## all tests, on real servers; with ARGS=tests/... only those, one after the other
ifeq ($(ARGS),)
	failed=0; pytest -n $(WORKERS) --dist worksteal -m "not load" || failed=$$?; \
	pytest -n $(LOAD_WORKERS) --dist worksteal -m load && exit $$failed
else
	pytest $(ARGS)
endif

# Short: what depends on the version of the broker, on all of them at the same time; while these wait, most of their time, the rest
# on one that `make test` has not, and the stores on three members. FULL=1: everything on everything.
VERSIONS = 3.10 4.0 4.3
BROKER_TESTS = $(patsubst %,tests/contracts/test_broker_%.py,baton commands replies declared alarms connections opening odd_messages)
STORE_TESTS = tests/brokers/test_replica_set.py $(wildcard tests/contracts/test_store_*.py)

test-brokers: setup brokers ## the broker's tests on RabbitMQ 3.10, 4.0 and 4.3, the stores' on three members; FULL=1 for all
	mkdir -p .cronexec
	printf '%s\n' $(VERSIONS) | xargs -P 3 -I VERSION sh -c 'pytest --broker VERSION $(wildcard tests/brokers/test_broker_*.py) \
	    >.cronexec/VERSION.log 2>&1' & \
	versions=$$! failed=0; \
	for version in $(if $(FULL),$(VERSIONS),4.3); do \
	    pytest --broker $$version $(BROKER_TESTS) $(if $(FULL),tests/cluster/test_handover.py) || failed=1; \
	done; \
	pytest --mongo-members 3 $(STORE_TESTS) || failed=1; \
	wait $$versions || failed=1; \
	for version in $(VERSIONS); do echo "RabbitMQ $$version:"; cat .cronexec/$$version.log; done; \
	exit $$failed

# Short: every fault on one version, with short outages. FULL=1: as long as they last in earnest; BROKER=4.3: on that version.
test-faults: setup $(if $(BROKER),brokers) ## every fault that a cluster may meet, on real servers: BROKER=4.3, FULL=1 for long ones
	pytest -n 3 --dist loadfile tests/faults $(if $(BROKER),--broker $(BROKER)) $(ARGS)

brokers: venv ## the RabbitMQ versions that test-brokers needs and the machine has not: as root, with debootstrap
	@deploy/setup/brokers.sh

lint: venv ## style, types, and the direction of imports
	ruff check .
	ruff format --check .
	mypy
	lint-imports

bench: venv servers ## the figures that the README carries
	python tests/benchmarks $(ARGS)

MINUTES ?= 10
SEED ?= 7
JSON ?= .cronexec/chaos.json

chaos: venv servers $(if $(BROKER),brokers) ## faults of all kinds on five instances: MINUTES=10 SEED=7 BROKER=4.3; exits 1 on any broken promise
	mkdir -p $(dir $(JSON))
	python tests/chaos --minutes $(MINUTES) --seed $(SEED) $(if $(BROKER),--broker $(BROKER)) --json $(JSON) $(ARGS)

SEEDS ?= 2000

.PHONY: simulate
simulate: venv ## histories in made-up time, each from a seed: SEEDS=100000; ARGS="--seed 7" tells one
	python tests/simulation --seeds $(SEEDS) $(ARGS)

clean: ## remove what setup and the tools have made in the checkout
	rm -rf .venv .servers .cronexec build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

venv: .venv/complete

.venv/complete: pyproject.toml deploy/setup/venv.sh
	@deploy/setup/venv.sh
	@touch $@

servers: venv
	@deploy/setup/servers.sh

node: venv
	@deploy/setup/node.sh
