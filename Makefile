# SPDX-License-Identifier: MIT
# One-word commands; the build itself is Meson's. Everything made lies in build*/.
BUILD   ?= build
BENCH   ?= --quick
MESON   ?= meson
NINJA   ?= ninja
FLAGS   ?=

MATRIX  ?= --all -j 2

.PHONY: all run test matrix bench asan tsan valgrind fuzz lint fmt install deps clean
all: $(BUILD)/build.ninja
	@$(NINJA) -C $(BUILD)

deps:
	@scripts/install-deps all

$(BUILD)/build.ninja:
	@scripts/install-deps build
	@$(MESON) setup $(BUILD) $(FLAGS) >/dev/null || { $(MESON) setup $(BUILD) $(FLAGS); exit 1; }

# A live mirror of a real disk, start to end.
run:
	@scripts/install-deps run
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@$(NINJA) -C $(BUILD) liveblk liveblkd
	@scripts/demo $(BUILD)

test:
	@scripts/install-deps all
	@$(MAKE) --no-print-directory all
	@scripts/run-tests $(BUILD)

# Images of every kind (3,000 of them), changed by ours and by the peers in turns; MATRIX="--forever", or
# MATRIX="--all --only cluster=512": tests/interop/matrix/run.py --help tells more.
matrix:
	@scripts/install-deps all
	@$(MAKE) --no-print-directory all
	@tests/interop/matrix/run.py --ours $(BUILD)/compat $(MATRIX)

# Speed and memory beside an installed peer and the least that could do the work: below three
# minutes; make bench BENCH="--full --only nbd --peer PATH" for more (docs/performance.md).
bench:
	@$(MAKE) --no-print-directory all
	@bench/run --build $(BUILD) $(BENCH)

# Under sanitizers: the unit tests, and the daemon with all that talks to it (but for the
# comparisons with peers that run beside it: they are about words).
asan:
	@scripts/install-deps all
	@test -f build-asan/build.ninja || $(MESON) setup build-asan -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
	@$(NINJA) -C build-asan
	@scripts/run-tests build-asan --no-suite peer
tsan:
	@scripts/install-deps all
	@test -f build-tsan/build.ninja || $(MESON) setup build-tsan -Db_sanitize=thread -Db_lundef=false >/dev/null
	@$(NINJA) -C build-tsan
	@scripts/run-tests build-tsan --no-suite peer

# Each fuzz target for a minute: scripts/run-fuzz SECONDS TARGET... for more.
fuzz:
	@scripts/install-deps all
	@scripts/run-fuzz

# The unit tests under Valgrind.
valgrind:
	@scripts/install-deps all
	@$(MAKE) --no-print-directory all
	@scripts/run-tests $(BUILD) --setup valgrind --suite unit --no-suite io_uring --no-suite tree

# The rules of the tree (licence lines, layers, lengths, leftovers: also a test), then the tools.
lint:
	@scripts/install-deps lint
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) scripts/lint

fmt:
	@scripts/install-deps lint
	@scripts/fmt

install: all
	@$(MESON) install -C $(BUILD)

clean:
	@rm -rf build build-asan build-tsan build-fuzz
