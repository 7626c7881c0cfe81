# The two commands of the README: `make demo` and `make test`. The rest is for people who change Chiffon.

SHELL := /bin/sh
CARGO ?= cargo
ENVS := .venv
TEST_FEATURES := --features chiffon-schemas/crash-points
# Most of a test is waiting for others: processes, a broker, Ansible.
TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

.PHONY: help demo test check fmt lint gen evals bench crash fuzz mutants clean-venv

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

demo: $(ENVS)/ansible-2.19/.ready ## Follow one sentence from a push to a record of a real run (ASK=1: you merge)
	@$(CARGO) build --quiet --package chiffon
	@ASK="$(ASK)" sh tests/tools/demo.sh "$(CURDIR)"

test: $(ENVS)/ansible-2.19/.ready $(ENVS)/ansible-2.14/.ready $(ENVS)/protocol/.ready $(ENVS)/schemathesis/.ready ## Run every test
	$(CARGO) build --workspace $(TEST_FEATURES)
	RUST_TEST_THREADS=$(TEST_THREADS) sh tests/tools/services.sh $(CARGO) test --workspace --no-fail-fast $(TEST_FEATURES)

check: fmt lint ## Formatting, lints and generated files

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets $(TEST_FEATURES) -- -D warnings
	$(CARGO) run --quiet --package chiffon-schemas --bin chiffon-gen $(TEST_FEATURES) -- --check

gen: ## Write schemas/json, docs/diagnostics.md and docs/protocol.md from the types
	$(CARGO) run --quiet --package chiffon-schemas --bin chiffon-gen

evals: ## Score the planner on the golden sentences
	$(CARGO) run --quiet --package chiffon-planner --bin chiffon-evals

bench: $(ENVS)/ansible-2.19/.ready ## Measure each figure beside its floor and its peer
	$(CARGO) build --release --package chiffon --package chiffon-agent --package chiffon-bench --package chiffon-tests --bins
	sh tests/tools/services.sh python3 tests/bench/bench.py "$(CURDIR)" $(ARGS)

crash: $(ENVS)/ansible-2.19/.ready ## Kill every process at every crash point, and print what came of it
	$(CARGO) build --workspace $(TEST_FEATURES)
	sh tests/tools/services.sh target/debug/chiffon-crash $(ARGS)

# Tools that only these two need, in a folder of their own.
TOOLS := .tools
$(TOOLS)/bin/cargo-%:
	$(CARGO) install --locked --root $(TOOLS) cargo-$*

fuzz: $(TOOLS)/bin/cargo-fuzz ## Feed the readers any bytes for SECONDS=60 (needs a nightly compiler); keep what it finds
	@mkdir -p target/fuzz-corpus
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" $(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz --sanitizer none documents \
		target/fuzz-corpus tests/fuzz/corpus/documents -- -max_total_time=$(or $(SECONDS),60) -max_len=65536

mutants: $(TOOLS)/bin/cargo-mutants ## Break the gate in every small way and see that a test notices
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" $(CARGO) mutants --package chiffon-core --file reconciler/core/src/gate.rs \
		--output target

$(ENVS)/ansible-%/.ready: tests/tools/ansible-env.sh
	@sh tests/tools/ansible-env.sh $* "$(ENVS)/ansible-$*"

$(ENVS)/protocol/.ready: tests/tools/python-env.sh
	@sh tests/tools/python-env.sh "$(ENVS)/protocol" cryptography,pika "pika==1.4.4" "cryptography==50.0.2"

# It asks everything that our OpenAPI document describes, and much that it does not.
$(ENVS)/schemathesis/.ready: tests/tools/python-env.sh
	@sh tests/tools/python-env.sh "$(ENVS)/schemathesis" schemathesis "schemathesis==4.32.5"

clean-venv:
	rm -rf $(ENVS)
