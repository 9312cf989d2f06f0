# What a person types here. Everything below works on a machine with Python >= 3.11, make and a package index.
#
# Packages come from the lock files in requirements/, hash by hash, into .venv; nothing is ever removed from it, so a
# small set after a big one costs nothing. A stamp in .venv bears the checksum of the lock file it stands for: a second
# run does nothing, and a changed lock file is installed again, whatever the files' times say.

PYTHON ?= python3
BACKENDS := keras tensorflow pytorch

SHELL := /bin/sh
.SHELLFLAGS := -euc
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:  # every set goes into the same .venv
.SUFFIXES:

# Where no bytecode is kept, every interpreter compiles its framework anew: 9 of the 15 s in which torch is imported.
unexport PYTHONDONTWRITEBYTECODE

checksum = $(shell cat $1 2>/dev/null | cksum | cut -d' ' -f1)
stamp = .venv/.installed/$1-$(call checksum,$2)

bootstrap := $(call stamp,bootstrap,requirements/bootstrap.txt)
project := $(call stamp,project,pyproject.toml hatch_build.py $(wildcard trainer-image/feedline/native/*.c))
# $(call installed,SET): what a target needs that uses the packages of requirements/SET.txt.
installed = $(call stamp,$1,requirements/$1.txt) $(project)

##@ Use

demo_data := .cache/demo/digits
demo_runs := .cache/demo/runs
demo_sweep := .cache/demo/sweep
demo_pipeline := examples/digits/pipeline.yaml

.PHONY: demo
demo: backend-is-known $(foreach set,demo $(or $(BACKEND),$(BACKENDS)),$(call installed,$(set)))  ## train real digits with each backend, compare them, and sweep parameters; BACKEND=keras|tensorflow|pytorch: only one
	.venv/bin/feedline pack examples/digits/digits.csv.gz $(demo_data) --shape 8,8 --scale 0.0625 --shuffle-seed 7 --overwrite
ifdef BACKEND
	.venv/bin/feedline run $(demo_pipeline) --backend $(BACKEND) --volume digits=$(demo_data) --output $(demo_runs)/$(BACKEND) --fresh
else
	.venv/bin/feedline compare $(demo_pipeline) --volume digits=$(demo_data) --output $(demo_runs)
endif
	rm -rf $(demo_sweep)
	.venv/bin/feedline sweep run examples/sweep/sweep.yaml --volume digits=$(demo_data) --output $(demo_sweep) --set spec.trials=8 --set spec.template.spec.backend=$(or $(BACKEND),pytorch)
	@.venv/bin/feedline sweep show $(demo_sweep) --html $(demo_sweep).html >/dev/null
	@echo "page: $(demo_sweep).html"

.PHONY: backend-is-known
backend-is-known:
	@[ -z "$(BACKEND)" ] || [ -n "$(and $(filter 1,$(words $(BACKEND))),$(filter $(BACKENDS),$(BACKEND)))" ] || { \
		echo "feedline: BACKEND=$(BACKEND) is unknown: leave it out, or take one of $(BACKENDS)." >&2; exit 64; }

.PHONY: bench
bench: $(call installed,all)  ## measure the feed against what people use today (minutes); ARGS=… go to benchmarks/run.py
	.venv/bin/python benchmarks/run.py $(ARGS)

.PHONY: bench-rows
bench-rows: $(call installed,all)  ## measure rows of many kinds beside what people write for them (10 minutes)
	.venv/bin/python benchmarks/rows.py $(ARGS)

.PHONY: bench-sweeps
bench-sweeps: $(call installed,all)  ## measure how sweeps find what they look for, beside Optuna (5 minutes)
	.venv/bin/python benchmarks/sweeps.py $(ARGS)

.PHONY: bench-cold
bench-cold: $(call installed,all)  ## measure data that do not fit into memory (20 minutes, root)
	.venv/bin/python benchmarks/cold.py $(ARGS)

.PHONY: bench-checkpoint
bench-checkpoint: $(call installed,all)  ## measure what a checkpoint costs the training, beside what people use today (10 minutes)
	.venv/bin/python benchmarks/checkpoint.py $(ARGS)

.PHONY: bench-ranks
bench-ranks: $(call installed,test)  ## measure processes that train together, beside torchrun and JobSet (40 minutes, root, Go)
	PYTHONPATH=tests .venv/bin/python benchmarks/ranks.py $(ARGS)

operator_bench := PYTHONPATH=tests:benchmarks .venv/bin/python benchmarks/operator

.PHONY: bench-operator
bench-operator: $(call installed,test)  ## measure what the operator costs an API server and a machine (10 minutes, Go)
	$(operator_bench)/run.py $(ARGS)

.PHONY: bench-peers
bench-peers: $(call installed,test)  ## measure it beside Kubeflow Trainer with JobSet (10 minutes, Go)
	$(operator_bench)/peers.py $(ARGS)

.PHONY: demo-cluster
demo-cluster: $(call installed,test)  ## the whole story on a real Kubernetes: operator, apply, watch, verdict (root and Go)
	@PYTHONPATH=tests .venv/bin/python -m cluster packages
	@PYTHONPATH=tests .venv/bin/python -m cluster demo

# What it writes is for a shell: eval "$(make cluster)".
.PHONY: cluster
cluster: $(call installed,test)  ## start a Kubernetes with one node, and leave it up for you to play with (root and Go)
	@PYTHONPATH=tests .venv/bin/python -m cluster up

.PHONY: cluster-down
cluster-down: $(call installed,test)  ## end that Kubernetes; only its programs and images stay, in .cache
	@PYTHONPATH=tests .venv/bin/python -m cluster down

.PHONY: pictures
pictures: $(call installed,test)  ## draw the dashboards for the docs from pipelines that really run (root and Go)
	PICTURES=1 .venv/bin/pytest -rP tests/e2e/test_monitoring.py $(ARGS)

.PHONY: docs
docs: $(call installed,test)  ## make the pages of docs/ in .cache/docs
	.venv/bin/sphinx-build --quiet --fail-on-warning --builder html docs .cache/docs

.PHONY: images
images: $(call installed,test)  ## build the images of the trainer and the operator
	@PYTHONPATH=tests .venv/bin/python -m cluster images

##@ Develop

# Three processes: one has all tests of a real API server, one all of a real node, and both mostly wait.
pytest := .venv/bin/pytest -n 3 --dist loadgroup

# What a node needs of the system is installed where nobody is there to be told.
.PHONY: test
test: $(call installed,test)  ## run all tests; ARGS=… go to pytest
ifeq ($(CI),true)
	PYTHONPATH=tests .venv/bin/python -m cluster packages
endif
	$(pytest) $(ARGS)

# Of the folders that are left out every test needs a framework, which is imported to find them.
quick := -m unit --ignore=tests/adapters --ignore=tests/classic --ignore=tests/e2e

.PHONY: check
check: lint $(call installed,test)  ## lint, and the tests that need neither a framework nor a cluster (3 minutes)
	$(pytest) $(quick) $(ARGS)

.PHONY: coverage
coverage: $(call installed,test)  ## say which lines the tests run that make check runs
	$(pytest) $(quick) --cov --cov-report=term:skip-covered $(ARGS)

.PHONY: lint
lint: $(call installed,lint) generated-is-current  ## check format, lint, types, layers, images, workflows and generated files
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	MYPYPATH=dashboards .venv/bin/mypy dashboards/*.py
	.venv/bin/lint-imports --no-logo
	.venv/bin/hadolint operator/Dockerfile trainer-image/Dockerfile
	.venv/bin/zizmor --offline --quiet .github/workflows

.PHONY: format
format: $(call installed,lint)  ## put the code into its format and repair what ruff can
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

# The definition of a sweep is not copied: it is made of what the package has.
crd_copies := trainer-image/feedline/manifest/trainingpipelines.feedline.dev.yaml crds/trainingsweeps.feedline.dev.yaml
generated := $(crd_copies) README.md $(wildcard charts/feedline/README.md charts/feedline/files/*/* dashboards/*.json docs/reference/*.md)

.PHONY: generate
generate: $(call installed,lint)  ## remake every generated file; one line for each generator
	.venv/bin/python crds/generate.py
	cp crds/trainingpipelines.feedline.dev.yaml trainer-image/feedline/manifest/
	cp crds/*.yaml charts/feedline/files/crds/
	$(PYTHON) benchmarks/readme.py
	.venv/bin/python charts/readme.py
	.venv/bin/python dashboards/generate.py
	for page in api codes cli metrics; do .venv/bin/python docs/generate/$$page.py; done

# Compared with what lay there before, not with git: a change that is not committed yet is nobody's mistake.
.PHONY: generated-is-current
generated-is-current:
	@mkdir -p .cache
	@for file in $(generated); do cksum "$$file" 2>/dev/null || echo "missing $$file"; done >.cache/generated-before
	@$(MAKE) --silent --no-print-directory generate
	@for file in $(generated); do cksum "$$file"; done >.cache/generated-after
	@stale=$$(diff .cache/generated-before .cache/generated-after | sed -n 's/^> .* //p' | tr '\n' ' '); \
	if [ -n "$$stale" ]; then \
		echo "feedline: generated files were out of date and have just been remade; commit them: $$stale" >&2; exit 1; \
	fi

compile := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
subset := $(compile) --no-annotate --constraint requirements/all.txt

.PHONY: lock
lock: $(bootstrap)  ## remake requirements/*.txt from pyproject.toml; ARGS=--upgrade for the newest versions
	$(compile) $(ARGS) pyproject.toml requirements/bootstrap.in requirements/native.in --all-extras --group lint --group docs --group test --group bench --output-file requirements/all.txt
	$(subset) requirements/bootstrap.in --output-file requirements/bootstrap.txt
	$(subset) requirements/native.in --output-file requirements/native.txt
	$(subset) pyproject.toml --extra keras --output-file requirements/keras.txt
	$(subset) pyproject.toml --extra tensorflow --output-file requirements/tensorflow.txt
	$(subset) pyproject.toml --extra pytorch --extra hdf5 --output-file requirements/pytorch.txt
	$(subset) pyproject.toml --extra pack --extra sweep --output-file requirements/demo.txt
	$(subset) pyproject.toml --extra operator --output-file requirements/operator.txt
	$(subset) pyproject.toml --extra pack --extra operator --group lint --output-file requirements/lint.txt
	$(subset) pyproject.toml --all-extras --group lint --group docs --group test --output-file requirements/test.txt

.PHONY: clean
clean:  ## remove all that make has made: .venv, caches, reports
	@[ ! -d .cache/cluster/containerd ] || [ ! -x .venv/bin/python ] || PYTHONPATH=tests .venv/bin/python -m cluster down
	rm -rf .venv .cache .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:  ## show this
	@awk 'BEGIN { FS = ":.*  ## "; print "make TARGET" } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*  ## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# --- the environment -------------------------------------------------------------------------------------------------

define check_python
import sys
if sys.version_info < (3, 11):
    sys.exit("feedline: Python 3.11 or newer is needed, and $(PYTHON) is %d.%d: name another by make PYTHON=python3.12."
             % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("feedline: $(PYTHON) comes without venv and pip: install them (Debian, Ubuntu: apt install python3-venv).")
endef
export check_python

$(bootstrap):
	@command -v $(PYTHON) >/dev/null || { \
		echo "feedline: there is no $(PYTHON): install Python 3.11 or newer, or name it by make PYTHON=/path/to/python." >&2; exit 69; }
	@$(PYTHON) -c "$$check_python"
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/bootstrap.txt
	@mkdir -p $(@D) && touch $@

# uv does not read pip's configuration, so that an index that pip is told of is handed on.
uv := if [ -z "$${UV_DEFAULT_INDEX:-}$${UV_INDEX_URL:-}" ]; then \
		index=$$(.venv/bin/python -m pip config list | sed -n "s/^[^=]*\.index-url='\(.*\)'$$/\1/p" | head -n 1); \
		if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	fi; \
	quiet=; if [ ! -t 2 ]; then quiet=--quiet; fi; \
	.venv/bin/uv pip install $$quiet --python .venv/bin/python

$(project): $(bootstrap)
	@unset UV_REQUIRE_HASHES; $(uv) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.installed/%: $(bootstrap)
	@echo "Installing requirements/$(firstword $(subst -, ,$*)).txt (large the first time, kept in uv's cache)"
	@$(uv) --require-hashes --only-binary :all: -r requirements/$(firstword $(subst -, ,$*)).txt || { \
		echo "feedline: not installed, for the reason above. Is it the Python version? make clean, then make PYTHON=python3.12 …" >&2; exit 69; }
	@touch $@
