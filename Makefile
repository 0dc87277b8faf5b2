# What CI runs is .ci/run, which calls these targets. docs/testing.md explains the tags.

FUZZTIME ?= 60s
DAMAGE   ?= 200
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
ALLTAGS  := fuse,shared,oracle

# Packages with goroutines or locks of their own.
CONCURRENT := . ./block/... ./cli/... ./iofs/... ./serve/... ./internal/btree/... ./internal/data/... ./internal/engine/... ./internal/journal/... ./internal/members/...

TARGETS := linux/amd64 linux/arm64 linux/386 darwin/amd64 darwin/arm64 freebsd/amd64 freebsd/arm64 windows/amd64 windows/arm64

.PHONY: help test race single fuzz fuse shared oracle bench lint fmt vet staticcheck tidy cross damage-campaign demo

help: ## print the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-16s %s\n", $$1, $$2 }'

test: ## everything that needs no root, no network and no other program
	go test ./...

race: ## the concurrent packages with the race detector
	go test -race -timeout 20m $(CONCURRENT)

single: ## the concurrent packages on one processor
	GOMAXPROCS=1 go test -count=1 $(CONCURRENT)

fuzz: ## every fuzz target for FUZZTIME (60s)
	@set -e; grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do \
		for f in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/p' "$$file"); do \
			echo "== $$f in $$(dirname "$$file")"; \
			go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; \
		done; \
	done

fuse: ## tests of the mount: Linux, root, /dev/fuse, fusermount3
	go test -count=1 -tags fuse -run 'FUSE$$' -timeout 20m ./...

shared: ## tests over the full set of volumes: GOBCACHEFS_VOLUMES, or ../shared/volumes
	go test -count=1 -tags shared,fuse -run 'Shared$$' -timeout 30m ./...

oracle: ## tests against the real tools and kernel: GOBCACHEFS_ORACLE, or ../shared/oracle, after its setup.sh
	go test -count=1 -tags $(ALLTAGS) -run 'Oracle$$' -timeout 30m -p 1 ./...

bench: ## benchmarks (docs/benchmarks.md)
	go test -run '^$$' -bench . -benchmem ./...
	go run ./bench $(BENCHFLAGS)

lint: fmt vet staticcheck ## gofmt, vet, staticcheck, and the rules of internal/lint
	go test ./internal/lint

fmt:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "not formatted:"; echo "$$out"; exit 1; fi

vet:
	go vet ./...
	go vet -tags $(ALLTAGS) ./...

staticcheck:
	go run $(STATICCHECK) -checks inherit,-U1000 -tags $(ALLTAGS) ./...

tidy: ## go.mod and go.sum hold what is used, and nothing else
	go mod tidy -diff

cross: ## build for every system; vet, which also reads the tests, for one processor of each
	@set -e; for t in $(TARGETS); do echo "== $$t"; GOOS=$${t%/*} GOARCH=$${t#*/} CGO_ENABLED=0 go build ./...; done
	@set -e; for os in darwin freebsd windows; do echo "== vet $$os"; GOOS=$$os GOARCH=amd64 go vet ./...; done

damage-campaign: ## random damage to every volume, DAMAGE (200) times: an error or right bytes, never wrong ones
	DAMAGE_SEEDS=$(DAMAGE) go test -count=1 -tags shared -run 'DamageShared$$' -timeout 0 -v .

demo: ## what the README shows first
	go run ./cmd/gobcachefs demo
