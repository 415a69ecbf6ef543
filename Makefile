# One command for each thing to do; `make` alone lists them.
# Settings come from the environment or the command line: `VAR=x make run` equals `make run VAR=x`.
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Pinned apart from go.mod, so that a linter's dependencies never become ours.
LINT = go tool -modfile=.ci/golangci-lint.mod golangci-lint

# Prometheus's own tool, pinned with its checksums in the same way, without the clouds it could discover targets in.
PROMTOOL = go run -modfile=.ci/promtool.mod -tags remove_all_sd github.com/prometheus/prometheus/cmd/promtool

# Two packages at a time suit a machine with 2 cores: each may bring its own database or browser. What vet has to say is asked
# for once, by check.
TEST = go test -vet=off -p 2 -timeout 15m

.PHONY: help run build test race check drill generate lint fmt demo-shots lighthouse alerts pages

help: ## list what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## run everything for development at http://127.0.0.1:8080; Ctrl-C stops it
	@deploy/setup.sh run
	@$(MAKE) --no-print-directory build
	@export RINGFENCE_ENV="$${RINGFENCE_ENV:-development}"; \
	if [ "$$RINGFENCE_ENV" = development ]; then export RINGFENCE_DEMO_HISTORY="$${RINGFENCE_DEMO_HISTORY:-true}"; fi; \
	exec bin/ringfence serve

# Without version stamping: git refuses to answer root about somebody else's clone, and the build would fail.
build:
	@go build -buildvcs=false -o bin/ringfence ./cmd/ringfence

test: ## run every test: unit, database, page scripts, browser
	@deploy/setup.sh test
	$(TEST) ./...

check: ## say whether a change is good: generated files, modules, linters, tests; what CI runs
	@deploy/setup.sh check
	.ci/generated.sh
	go mod tidy -diff
	go vet ./...
	go vet -tags drill ./...
	@$(MAKE) --no-print-directory lint alerts test

# The race detector needs cgo, hence the C compiler that setup.sh sees to.
race: ## run the tests of PACKAGES (all) with the race detector (long); pages are used, not judged
	@deploy/setup.sh test
	CGO_ENABLED=1 go test -race -p 2 -timeout 30m $(or $(PACKAGES),./...)

# Drills are tests with the build tag drill: long, with faults injected into the whole. One package at a time, since
# they load the machine on purpose.
drill: ## run the fault drills (long)
	@deploy/setup.sh test
	@files=$$(find . -name node_modules -prune -o -name '*_test.go' -exec grep -lE '^//go:build (.*[^[:alnum:]_!])?drill([^[:alnum:]_]|$$)' {} +); \
	if [ -z "$$files" ]; then echo 'no package has drills'; exit 0; fi; \
	packages=$$(printf '%s\n' $$files | sed 's|/[^/]*$$||' | LC_ALL=C sort -u); \
	drills=$$(sed -n 's/^func \(Test[[:alnum:]_]*\)(t \*testing.T).*/\1/p' $$files | LC_ALL=C sort -u | paste -s -d '|' -); \
	set -x; go test -tags drill -v -count=1 -p 1 -timeout 60m -run "^($$drills)$$" $$packages

# The browser tests take the pictures, of a demo of their own; what is too large for a README is refused.
SHOTS = wallet wallet-dark wallet-phone dashboard numbers agent calls operations
demo-shots: ## take the pictures of README and docs (docs/images)
	@deploy/setup.sh test
	@rm -rf .shots && mkdir .shots
	RINGFENCE_SCREENSHOTS=$(CURDIR)/.shots go test -count=1 -timeout 10m -run '^TestDemoPages$$/^pictures$$' ./cmd/ringfence
	@for name in $(SHOTS); do \
		if [ -n "$$(find .shots/$$name.png -size +300k)" ]; then echo "$$name.png is larger than 300 KB" >&2; exit 1; fi; \
		mv .shots/$$name.png docs/images/; \
	done; rm -rf .shots

pages: ## write docs/pages.md and its pictures by the browser tests
	@deploy/setup.sh test
	RINGFENCE_PAGES=write go test -count=1 -timeout 25m ./cmd/ringfence

# Lighthouse and all that comes with it stay apart from what the program is built with.
lighthouse: ## measure the running demo's pages with Lighthouse (BASE=http://127.0.0.1:8080)
	@cd .ci/lighthouse && npm ci && node measure.js

generate: node_modules/.package-lock.json ## rebuild the generated files: templ's Go, CSS, scripts, icons
	go tool templ generate -log-level warn
	npm run --silent build

# npm writes this file last; it is older than the lock file when something changed.
node_modules/.package-lock.json: package.json package-lock.json
	npm ci --no-fund --no-audit
	@touch $@

lint: ## run the linters
	go tool templ fmt -fail .
	$(LINT) run

alerts: ## test the alert rules with Prometheus's own tool
	$(PROMTOOL) check rules --lint=all deploy/prometheus/alerts.yml
	$(PROMTOOL) check config --syntax-only deploy/prometheus/prometheus.yml
	$(PROMTOOL) test rules deploy/prometheus/alerts_test.yml deploy/prometheus/alerts_weeks_test.yml

fmt: ## format the Go and templ files
	go tool templ fmt .
	$(LINT) fmt
