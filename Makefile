# SPDX-License-Identifier: Apache-2.0
# `make run` and `make test` are all that a bare Debian 12 with Rust needs; `make help` lists the rest.
# Each target first installs the Debian packages that it needs and that are missing (scripts/setup).

TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
HEDGEROW := $(TARGET_DIR)/debug/hedgerow
AS_ROOT := $(CURDIR)/scripts/as-root
LEARN ?= 2m
truth: MINUTES ?= 60
enforce-truth: MINUTES ?= 30
GUESTS ?= 6.1 6.12
ROUNDS ?= 3
# What the table tells besides what is found: ablations, and rates at budgets of a day.
TRUTH ?= --parts --rates 24,120
RECORDING ?= $(TARGET_DIR)/truth-recording
# With the whole workspace's features, so that every target shares what was built.
BUILD := cargo build --locked --workspace

# Live tests and benchmarks attach to the kernel, so cargo starts them as root.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := $(AS_ROOT)

.DEFAULT_GOAL := help
.PHONY: help run first-word picture test test-kernels evasions enforce-truth lint fmt demo truth bench bench-model eval eval-model test-data flat

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: ## build what is shipped, then observe this host and learn it for LEARN (default 2m)
	@scripts/setup build
	@echo "Building Hedgerow as it is shipped: the first time takes some minutes, later ones seconds"
	@begin=$$(date +%s); $(BUILD) --release --bin hedgerow && \
		echo "Built in $$(($$(date +%s) - begin)) s: $(TARGET_DIR)/release/hedgerow"
	$(AS_ROOT) $(TARGET_DIR)/release/hedgerow run --learn $(LEARN)

first-word: ## how long a newcomer waits for the first screen, for scoring and for the finding of `hedgerow test`
	@scripts/setup build
	$(BUILD) --release --bin hedgerow
	$(AS_ROOT) scripts/first-word $(TARGET_DIR)/release/hedgerow

picture: ## what `hedgerow top` and a finding look like, drawn by the programs themselves, into docs/pictures
	@scripts/setup build picture
	$(BUILD) --release --bin hedgerow
	$(AS_ROOT) scripts/picture $(TARGET_DIR)/release/hedgerow docs/pictures

test: lint ## lint, then every test, and a notebook; live-kernel tests run as root
	@scripts/setup build test
	@scripts/kafka install
	@scripts/python-env notebooks notebooks/requirements.txt >/dev/null
	cargo test --locked --workspace --no-fail-fast
	scripts/notebooks test

test-kernels: ## the probe, window and deny tests under Debian's 6.1 and 6.12 kernels (QEMU)
	@scripts/setup build kernels
	scripts/test-kernels

.PHONY: test-arm64

test-arm64: ## the same for arm64, crossed with Debian's rustc, and the daemon of the build for small hosts (QEMU)
	@scripts/setup build arm64
	scripts/test-kernels -a arm64

evasions: ## each known way around Hedgerow, the tests that guard against it, their results here and in GUESTS
	@scripts/setup build test kernels
	$(BUILD) --bin evasions
	$(TARGET_DIR)/debug/evasions $(addprefix --guest ,$(GUESTS))

.PHONY: faults

faults: ## kill -9 while 100,000 findings flow to a real broker, through the daemon's own delivery
	@scripts/setup build test
	HEDGEROW_FAULTS_FINDINGS=100000 cargo test --locked --workspace --bin hedgerow -- --nocapture whatever_was_shown_arrives

.PHONY: exposure-truth

exposure-truth: ## twelve packages that ran, were mapped, read, upgraded or left alone: every verdict of `hedgerow exposure`
	@scripts/setup build test
	cargo test --locked --workspace --test exposure

.PHONY: soak recorder-cost governor-plot footprint

governor-plot: CPU ?= 2%
governor-plot: OUT ?= $(TARGET_DIR)/governor.svg
governor-plot: ## seven minutes of the cost governor, drawn: a budget of CPU (default 2%) under a load that comes and goes, as OUT and its .csv
	@scripts/setup build
	$(BUILD) --release --bin hedgerow
	$(AS_ROOT) scripts/governor-plot $(TARGET_DIR)/release/hedgerow $(CPU) $(OUT)

footprint: ## memory and CPU of the build for small hosts with `aggregate = true` at 300 records a second
	@scripts/setup build
	cargo build --locked --profile small --no-default-features --bin hedgerow
	$(AS_ROOT) scripts/footprint $(TARGET_DIR)/small/hedgerow

soak: MINUTES ?= 10
soak: KILLS ?= 20
soak: ## the release build in the long run: 1,000 records a second, then full load, MINUTES each (default 10), then KILLS kill -9
	@scripts/setup build soak
	$(BUILD) --release --bin hedgerow
	$(AS_ROOT) scripts/soak $(TARGET_DIR)/release/hedgerow $(MINUTES) $(KILLS)

recorder-cost: ## CPU of the release build without and with the flight recorder, on the same load
	@scripts/setup build
	$(BUILD) --release --bin hedgerow
	$(AS_ROOT) scripts/recorder-cost $(TARGET_DIR)/release/hedgerow

lint: ## formatting, clippy and BPF source layout
	@scripts/setup build lint
	cargo fmt --all --check
	git ls-files -z 'bpf/*.c' 'bpf/*.h' | xargs -0r clang-format-19 --dry-run --Werror
	cargo clippy --locked --workspace --all-targets -- -D warnings

fmt: ## format Rust and BPF sources
	@scripts/setup lint
	cargo fmt --all
	git ls-files -z 'bpf/*.c' 'bpf/*.h' | xargs -0r clang-format-19 -i

demo: ## learn a PostgreSQL in a lab of its own, attack it, watch the kernel cut it off
	@scripts/setup build demo
	@echo "Building Hedgerow and its lab (the first time takes some minutes)"
	$(BUILD) --bin hedgerow --bin demo
	$(AS_ROOT) $(TARGET_DIR)/debug/demo --hedgerow $(HEDGEROW)

truth: ## record loads and attacks for MINUTES (default 60) into RECORDING, tell what is found
	@scripts/setup build test truth
	$(BUILD) --release --bin hedgerow --bin truth
	$(AS_ROOT) $(TARGET_DIR)/release/truth --hedgerow $(TARGET_DIR)/release/hedgerow --recording $(RECORDING) --minutes $(MINUTES) --docs docs/detection.md $(TRUTH)

enforce-truth: ## real services under refusals for MINUTES (default 30), ROUNDS times (default 3), then through the real gate
	@scripts/setup build test truth
	$(BUILD) --release --bin hedgerow --bin enforce_truth
	$(AS_ROOT) $(TARGET_DIR)/release/enforce_truth --hedgerow $(TARGET_DIR)/release/hedgerow --minutes $(MINUTES) --rounds $(ROUNDS) --docs docs/enforce-truth.md

bench: ## what probes, windows, scores and the deny path cost on this machine, goals beside the figures
	@scripts/setup build bench
	@lscpu | sed -n 's/^Model name: */CPU: /p;s/^CPU(s): */CPUs: /p'
	cargo bench --locked --workspace --exclude hedgerow-model --bench '*'
	$(BUILD) --bin hedgerow --bin latency
	$(AS_ROOT) $(TARGET_DIR)/debug/latency --hedgerow $(HEDGEROW)

bench-model: ## the forest beside scikit-learn, isotree, coniferest and onnxruntime, on this machine
	@scripts/setup build
	@scripts/bench-model

eval: ## what is found in labelled sets of others below DATA, beside scikit-learn; rewrites datasets/RESULTS.md
	@scripts/setup build model
	$(BUILD) --example traces --example measure
	python3 datasets/eval.py --data $(or $(DATA),../shared/data) --binaries $(TARGET_DIR)/debug/examples --seeds $(or $(SEEDS),20)

eval-model: ## detection, ONNX, SHAP and maturity beside scikit-learn and others, on DATA (default ../shared/data)
	@scripts/setup build model
	scripts/eval-model $(DATA)

test-data: ## captures read by pandas, polars and DuckDB, forests exchanged with scikit-learn and onnxruntime
	@scripts/setup build model
	$(BUILD) --bin hedgerow --example life
	scripts/test-data $(TARGET_DIR)/debug

flat: ## peak memory of training while its input grows tenfold; CAPTURE=DIR (an hour by --full): time and memory of a fleet's, beside polars and scikit-learn
	@scripts/setup build
	$(BUILD) --release --example flat
	$(TARGET_DIR)/release/examples/flat
	$(if $(CAPTURE),scripts/train-scale $(CAPTURE))

.PHONY: packages unit-test package-test

packages: ## a .deb and an .rpm of a release build, libraries linked in, in target/packages
	@scripts/setup build package
	@scripts/packages

.PHONY: image pod-test

image: packages ## a container image as an OCI archive, in target/packages
	@scripts/setup image
	@scripts/image

pod-test: image ## the DaemonSet's pod in a guest with containerd: alive, names pods, refuses one, rolled out anew
	@scripts/setup package pods
	@scripts/pod-test

.PHONY: k8s-truth

k8s-truth: ## a real kube-apiserver with etcd: labels, owners, both names, denials by selector, loss of the API, missing rights
	@scripts/setup build k8s
	$(BUILD) --bin hedgerow
	scripts/k8s-truth $(HEDGEROW)

unit-test: ## the systemd unit is well-formed, and how exposed it is
	@scripts/setup package
	@scripts/test-unit

.PHONY: metrics-test

metrics-test: ## each alert rule fires where it should; Debian's Prometheus scrapes a live daemon, every query has data
	@scripts/setup build python
	$(BUILD) --bin hedgerow
	$(AS_ROOT) scripts/metrics-test $(HEDGEROW)

package-test: packages unit-test ## install, use, upgrade, remove and purge the packages in a guest with systemd
	@scripts/package-test

.PHONY: ocsf-test

ocsf-test: ## the golden events of sinks against OCSF 1.8 (ocsf-json-schema) and ECS (@elastic/ecs)
	@scripts/setup python ecs
	@scripts/ocsf-test

.PHONY: wheel report-test notebooks spark

wheel: ## the Python wheel (python/), and its tests against the command line
	@scripts/setup build python
	@scripts/wheel test

report-test: ## the reports' pages in a headless browser; screenshots in target/report
	@scripts/setup build python browser
	@scripts/report-test

notebooks: ## capture this host for three minutes, run the notebooks on it, their pages in target/notebooks
	@scripts/setup build python
	@scripts/notebooks

spark: ## score, judge and train by Spark Connect, on Sail and on a JVM, against the command line
	@scripts/setup build python jvm
	@scripts/spark
