# make demo   a cluster of three nodes under load, on this machine
# make test   lint and all tests
# make bench  side by side with PostgreSQL, then the packages' benchmarks: docs/performance.md
# make simulate  whole clusters in simulated trouble: SEEDS=50, SHORT=1, or SEED=n to repeat one; docs/testing.md
# make soak   the decisions alone, then the same, each for as long as asked: SOAK=10m
# make fuzz   every fuzz target for a while: FUZZTIME=30s
# make mutants  take each safety rule away, and see a test fail: docs/testing.md
# make profile  what the compiler is told of where the time goes, anew: docs/performance.md
# make lint   gofmt, go vet, staticcheck

GO       ?= go
PGBIN    ?= /usr/lib/postgresql/15/bin
BIN      := bin/longship
DEMO     ?=
ROUNDS   ?= 3
FUZZTIME ?= 30s
SEEDS    ?= 50
SEED     ?=
SHORT    ?=
SOAK     ?= 10m

# A simulation needs a Go runtime in whose bubbles mutexes count as idle: simulation/idle_test.go.
SIMULATE = $(GO) test -tags simulation -ldflags=-checklinkname=0 -count 1 -timeout 0 -v -run TestSimulation ./simulation

export PGBIN

.PHONY: all demo test bench profile fuzz mutants simulate soak lint tools clean FORCE

# The compiler uses cmd/longship/default.pgo, for some 5 % more commits. It compiles everything anew for it, which
# takes minutes: the demo and the tests do without.
all: $(BIN)
demo test lint mutants: export GOFLAGS += -pgo=off

$(BIN): FORCE
	$(GO) build -o $@ ./cmd/longship

demo: $(BIN)
	$(BIN) demo $(DEMO)

# The integration tests run the binary as users do, so without the race detector, which slows real
# failovers and real clients too much; everything else runs with it, but for the tests that -short
# leaves out or cuts short, which run without it, they alone. Lint has done what go test would vet.
test: tools lint $(BIN)
	$(GO) test -race -short -vet=off -timeout 9m $$($(GO) list ./... | grep -v /integration)
	$(GO) test -vet=off -timeout 9m -run "^($$($(LONG) | xargs awk '$(TESTS)' | paste -sd '|'))$$" $$($(LONG) | xargs -n1 dirname | sort -u)
	$(SIMULATE) -sim.short -sim.seeds 200
	LONGSHIP_BIN=$(CURDIR)/$(BIN) $(GO) test -vet=off -timeout 9m ./integration/...

# The files with tests that ask whether to be short, and those tests.
ASK   = slow\.Test\(t\)|testing\.Short\(\)
LONG  = grep -rlE --include='*_test.go' '$(ASK)' .
TESTS = /^func / {split($$2, name, "(")} /$(ASK)/ && name[1] ~ /^Test/ {print name[1]}

bench: tools $(BIN)
	LONGSHIP_BIN=$(CURDIR)/$(BIN) LONGSHIP_BENCH=$(ROUNDS) $(GO) test -count 1 -timeout 120m -run 'TestBesidePostgreSQL|TestBench' ./integration -v | grep -v '^='
	$(GO) test -run '^$$' -bench . -benchmem $$($(GO) list ./... | grep -v /integration)

profile: tools $(BIN)
	LONGSHIP_BIN=$(CURDIR)/$(BIN) LONGSHIP_PROFILE=$(CURDIR)/cmd/longship/default.pgo \
	  $(GO) test -count 1 -timeout 10m -run TestProfile ./integration

simulate:
	$(SIMULATE) $(if $(SHORT),-sim.short) $(if $(SEED),-sim.seed $(SEED) -sim.seeds 1 -sim.trace,-sim.seeds $(SEEDS))

soak:
	LONGSHIP_SOAK=$(SOAK) $(GO) test -count 1 -timeout 0 -v -run TestCore ./election
	$(SIMULATE) -sim.for $(SOAK) -sim.seed 0

# What is found is in testdata/fuzz of its package, and is run by make test from then on.
fuzz:
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed 's,/[^/]*:func ,\t,' | sort | while read -r package target; do \
	  echo "$$package $$target"; \
	  $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 50x $$package || exit 1; done

mutants:
	$(GO) run ./internal/mutants

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these files'; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# The PostgreSQL tools that integration tests run Longship against, and Prometheus' promtool, of which the
# package is not installed: it would start a server. Without them, and without root or a network to install them,
# those tests skip themselves by name. node-postgres, where there is npm, goes to bin/node. The drivers of Python are
# for the system's, 9 MB in all.
tools:
	@if [ ! -x $(PGBIN)/pg_waldump ] || ! command -v psql >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql-15 postgresql-client-15 || \
	    echo 'PostgreSQL 15 could not be installed: some integration tests will be skipped'; \
	  else echo 'PostgreSQL 15 tools not found in $(PGBIN): some integration tests will be skipped'; fi; fi

	@if ! command -v promtool >/dev/null && [ ! -x bin/promtool ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    dir=$$(mktemp -d) && mkdir -p bin && chmod 755 $$dir && (cd $$dir && apt-get update -qq && apt-get download -qq prometheus) && \
	    dpkg-deb --fsys-tarfile $$dir/prometheus_*.deb | tar -xO ./usr/bin/promtool > $$dir/promtool && \
	    install $$dir/promtool bin/promtool || echo 'promtool could not be had: the test of the alert rules will be skipped'; rm -rf $$dir; \
	  else echo 'promtool not found: the test of the alert rules will be skipped'; fi; fi

	@if [ -x /usr/bin/python3 ] && ! /usr/bin/python3 -c 'import asyncpg, psycopg2, sqlalchemy' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	      python3-asyncpg python3-psycopg2 python3-sqlalchemy || echo 'the drivers of Python could not be installed: their tests will be skipped'; \
	  else echo 'the drivers of Python are not there: their tests will be skipped'; fi; fi

	@if command -v npm >/dev/null && [ ! -d bin/node/node_modules/pg-cursor ]; then \
	  npm install --silent --no-audit --no-fund --no-save --prefix bin/node pg@8 pg-cursor@2 || \
	  echo 'node-postgres could not be installed: its test will be skipped'; fi

clean:
	rm -rf bin

FORCE:
