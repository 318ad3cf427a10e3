# Copyright The Periplus Authors
# SPDX-License-Identifier: Apache-2.0

# The same setting for builds and tests lets both use one build cache; the race detector alone needs cgo.
export CGO_ENABLED := 0
export GOFLAGS := -buildvcs=false

REVISION := $(shell git rev-parse --short=12 HEAD 2>/dev/null)$(shell git diff --quiet HEAD 2>/dev/null || echo -dirty)
OPS := github.com/periplus-io/periplus/internal/ops
LDFLAGS := -s -w -X $(OPS).revision=$(REVISION) $(if $(VERSION),-X $(OPS).version=$(VERSION))
TOOL := go tool -modfile=tools/go.mod
TESTSUM := $(TOOL) gotestsum --format pkgname-and-test-fails --hide-summary skipped --
FUZZTIME ?= 30s

.DEFAULT_GOAL := build
.PHONY: help build run unit test test-race fuzz bench lint fmt check examples deps-run deps-test clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/periplus
	go build -ldflags '$(LDFLAGS)' -o bin/periplus ./cmd/periplus

examples: ## Build the example learners into bin
	cd examples/peers && go build -ldflags '-s -w' -o ../../bin/ ./cmd/...

run: deps-run build examples ## Run the hub and a fleet of peers that really learn, until Ctrl-C
	scripts/run

unit: ## Run the tests that need no cluster, no browser and no Debian package
	$(TESTSUM) . ./internal/... ./cmd/...
	cd examples/peers && go test -short ./...

test: deps-test examples ## Install what the tests need, then run them all
	cd examples/peers && go test ./...
	cd examples/peers/python && /usr/bin/python3 -m unittest discover -q
	$(MAKE) test-race
	$(TESTSUM) -count=1 -timeout 25m ./... # tests of built binaries must not come from the cache

test-race: ## Run the rooms' tests under the race detector
	CGO_ENABLED=1 go test -race -timeout 20m ./internal/...

fuzz: ## Run every fuzz target for FUZZTIME
	scripts/fuzz $(FUZZTIME)

bench: ## Run the Go benchmarks; programs that compare with peers are in bench/
	go test -run '^$$' -bench . -benchmem ./internal/...

lint: ## Run the linters
	$(TOOL) golangci-lint run
	cd examples/peers && go tool -modfile=../../tools/go.mod golangci-lint run --config ../../.golangci.yml

fmt: ## Format the code
	$(TOOL) golangci-lint fmt

check: lint unit ## What a commit must pass

deps-run:
	@scripts/install dataset-fashion-mnist python3-prometheus-client

deps-test:
	@scripts/install dataset-fashion-mnist python3-prometheus-client prometheus prometheus-alertmanager prometheus-node-exporter

clean: ## Remove what was built
	rm -rf bin
