# Everything a developer or CI runs. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
GO ?= go
# Real PostgreSQL and Redis for every test; the wrapper installs them when they are missing.
SERVERS := $(GO) run ./internal/testenv/cmd/withservers
# The race detector needs cgo and a C compiler; the product itself is built without.
TESTFLAGS ?= -shuffle=on -timeout 20m
PKG ?= ./...

.PHONY: help run dev test race check lint golden fuzz bench lab e2e docs build

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

run: ## start the product as a newcomer would
	$(GO) run ./cmd/vedette serve

dev: ## start it with a flaky target, a few monitors and a mail sink
	$(GO) run ./cmd/vedette serve --demo

build: ## build ./vedette
	CGO_ENABLED=0 $(GO) build -trimpath -o vedette ./cmd/vedette

test: ## every test, with a real PostgreSQL and Redis
	$(SERVERS) $(GO) test $(TESTFLAGS) $(PKG)

race: ## the tests of the concurrent packages under the race detector
	CGO_ENABLED=1 $(SERVERS) $(GO) test -race $(TESTFLAGS) $(RACE)

RACE ?= ./internal/queue/... ./internal/schedule/... ./internal/worker/... ./internal/incident/... ./internal/notify/... ./internal/evaluate/...

lint: ## formatting, vet, static analysis, tidy modules
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted: $$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff

golden: ## write the golden files anew; review them like code
	$(GO) test $$(grep -rl 'flag.Bool("update"' --include='*_test.go' internal | xargs -n1 dirname | sed 's|^|./|') -update

T ?= 30s
fuzz: ## run every fuzz target for T=30s
	@grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r f; do \
	  d=$$(dirname $$f); for n in $$(grep -ohE '^func Fuzz[A-Za-z0-9_]+' $$f | cut -c6-); do \
	  $(GO) test $$d -run '^$$' -fuzz "^$$n$$" -fuzztime $(T) || exit 1; done; done

e2e: ## the end-to-end scenarios alone, in both modes
	$(SERVERS) $(GO) test $(TESTFLAGS) ./e2e/...

bench: ## measure what docs/performance.md reports, both modes, beside the bare loop
	$(SERVERS) $(GO) run ./e2e/bench

lab: ## targets that fail in every way, and what both modes say of them (docs/lab.md)
	$(SERVERS) $(GO) run ./e2e/lab

check: lint test race lab ## all that CI runs
