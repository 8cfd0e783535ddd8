# The commands of this project. Each says what it does and does all its own set-up; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
STATIC := target/$(TARGET)/release
# Not CLUSTER, which says where the demo is made.
CLUSTER_TOOL := target/debug/cluster
HELM = $$($(CLUSTER_TOOL) tools --path helm)
KUBECTL = $$($(CLUSTER_TOOL) tools --path kubectl)

.PHONY: help
help: ## List the commands.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo: cluster-tool ## A three-node cluster, the operator, and a replica set of three; CLUSTER=own, kind or current says where.
	$(CLUSTER_TOOL) demo --binaries $(STATIC)

.PHONY: demo-down
demo-down: cluster-tool ## Remove all that `make demo` made.
	$(CLUSTER_TOOL) demo --down

.PHONY: test
test: lint test-local test-cluster ## All tests, with all set-up done by itself.

.PHONY: lint
lint: packages ## Formatting, clippy, rustdoc, shellcheck, and what the dependencies are allowed to be.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features redis-operator/cluster-tests -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --quiet --workspace --no-deps
	shellcheck .ci/run $$(git ls-files '*.sh')
	cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny@0.20.2
	cargo deny --workspace check bans licenses sources
	@echo 'Not checked here: known vulnerabilities of the dependencies. Their database comes from the network; the release'
	@echo 'workflow asks for it, and so does: cargo deny --workspace check advisories'

.PHONY: test-local
test-local: tools sbom ## Tests that need no cluster: units, properties, the model of the protocol, real redis-servers, a real kube-apiserver.
	KUBE_APISERVER=$$($(CLUSTER_TOOL) tools --path kube-apiserver) ETCD=$$($(CLUSTER_TOOL) tools --path etcd) \
	KUBE_CONTROLLER_MANAGER=$$($(CLUSTER_TOOL) tools --path kube-controller-manager) KUBECTL=$(KUBECTL) HELM=$(HELM) \
	KUBE_ROUTER=$$($(CLUSTER_TOOL) tools --path kube-router) \
	cargo test --workspace --no-fail-fast -- --test-threads=6

.PHONY: proof
proof: tools ## Look for counterexamples for longer: the model of the protocol; the operator killed at each moment of each of its calls.
	cargo run --quiet --package model -- report docs/evidence/model.md
	KUBE_APISERVER=$$($(CLUSTER_TOOL) tools --path kube-apiserver) ETCD=$$($(CLUSTER_TOOL) tools --path etcd) \
	KUBE_CONTROLLER_MANAGER=$$($(CLUSTER_TOOL) tools --path kube-controller-manager) KUBECTL=$(KUBECTL) \
	CRASH_DOCUMENT=docs/evidence/crash-campaign.md cargo test --test crash at_each_moment_of_each_call -- --ignored --nocapture

.PHONY: test-cluster
test-cluster: up ## Tests on the real cluster: the lab, a set's whole life, installing.
	trap '$(CLUSTER_TOOL) down' EXIT; export KUBECTL=$(KUBECTL) HELM=$(HELM) CLUSTER=$(CLUSTER_TOOL); failed=; \
	cargo test --features cluster-tests --test cluster -- --skip lab:: --skip install:: --skip operator:: --test-threads=3 --show-output || failed=1; \
	cargo test --features cluster-tests --test cluster -- lab:: install:: operator:: --test-threads=1 --nocapture || failed=1; \
	test -z "$$failed"

.PHONY: bench
bench: up ## Measure the times that docs/evidence/figures.md shows; ARGS gives more, for example ARGS="--runs 5".
	KUBECTL=$(KUBECTL) HELM=$(HELM) CLUSTER=$(CLUSTER_TOOL) cargo run --package bench -- $(ARGS)

.PHONY: scenarios
scenarios: up ## Play every scenario once and write docs/evidence/scenarios.md; ARGS gives more, for example ARGS="--only drain".
	KUBECTL=$(KUBECTL) HELM=$(HELM) CLUSTER=$(CLUSTER_TOOL) cargo run --package scenarios -- $(ARGS)

.PHONY: up
up: static tools ## The cluster with the operator's image, without anything installed.
	$(CLUSTER_TOOL) up
	$(CLUSTER_TOOL) image load-operator $(STATIC)

.PHONY: down
down: cluster-tool ## Remove the cluster.
	$(CLUSTER_TOOL) down

.PHONY: packages
packages: cluster-tool
	$(CLUSTER_TOOL) packages

.PHONY: tools
tools: packages ## Build Kubernetes and the other tools that are not in the cache yet.
	$(CLUSTER_TOOL) tools

.PHONY: static
static: ## The operator's and the agent's static binaries.
	hack/release/static.sh

.PHONY: image
image: static ## The operator's image as a registry has it, in target/image.tar; prints its digest.
	@hack/release/image.sh target target/image.tar

.PHONY: sbom
sbom: ## What the image is made of, as CycloneDX, in target/sbom.json.
	hack/release/sbom.sh target/sbom.json

.PHONY: reproducible
reproducible: ## Build the image twice, in two directories, and compare the digests.
	hack/release/reproducible.sh

.PHONY: crds
crds: ## Write crds/ and the chart's copy from the Rust types.
	cargo run --quiet -- crd > crds/redisreplicasets.replication.redis.yaml
	cp crds/redisreplicasets.replication.redis.yaml charts/redis-operator/files/crd.yaml

.PHONY: drawing
drawing: ## Draw the pictures of docs/design from their sources; needs graphviz.
	for source in docs/design/*.dot; do dot -Tsvg "$$source" -o "$${source%.dot}.svg"; done

.PHONY: cluster-tool
cluster-tool:
	cargo build --quiet --package cluster
