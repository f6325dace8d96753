# The README's few commands. Thin: meson does the work; a build that differs from the shipped one differs in the options
# that stand here. `make help` lists the targets.
export CC := clang-19
export CXX := clang++-19
export CC_LD := lld-19
export CXX_LD := lld-19

PREFIX ?= /usr
DESTDIR ?=
FUZZ_SECONDS ?= 60
# "15 MB" of the shipped binary.
MAX_BYTES := 15000000
ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: all help deps deps-test deps-vm demo test bench install uninstall format lint asan fuzz test-k8s test-systemd test-kernels clean FORCE

all: build/casad ## the release binary: build/casad, static and stripped

help: ## this list
	@awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what building and the demo need (Debian 12 packages; root or sudo)
	@tools/install-deps.sh build

deps-test deps-vm:
	@tools/install-deps.sh $(@:deps-%=%)

# meson keeps the options of a set-up directory and sets itself up anew when its own files change.
build/build.ninja:
	meson setup build -Dprefix=$(PREFIX)
build-gcc/build.ninja:
	CC=gcc CXX=g++ CC_LD= CXX_LD= meson setup build-gcc -Dstatic=false
build-asan/build.ninja:
	meson setup build-asan -Dstatic=false -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false
build-fuzz/build.ninja:
	meson setup build-fuzz -Dstatic=false -Dfuzz=true

build/casad: build/build.ninja FORCE
	@ninja -C build src/casad
	@llvm-strip-19 -o $@.next build/src/casad
	@ldd $@.next 2>&1 | grep -q 'not a dynamic executable' || { echo "$@ is not static" >&2; exit 1; }
	@test $$(stat -c %s $@.next) -le $(MAX_BYTES) || { echo "$@ is larger than $(MAX_BYTES) bytes" >&2; exit 1; }
	@mv $@.next $@

demo: deps ## build, then show casad at work (DEMO_ONCE=1: run through once; the exit status tells)
	@$(MAKE) --no-print-directory build/casad
	@$(ROOT) $(if $(DEMO_ONCE),env DEMO_ONCE=$(DEMO_ONCE)) examples/demo/run

test: deps-test ## everything: both compilers, static checks, FUZZ_SECONDS (60) of fuzzing, unit and integration tests
	@MAKE="$(MAKE)" FUZZ_SECONDS="$(FUZZ_SECONDS)" tools/test.sh

bench: deps-test ## measure; prints the table and keeps JSON in build/bench
	@$(MAKE) --no-print-directory build/casad
	@ninja -C build
	@$(ROOT) test/bench/run build

install: ## install below $(DESTDIR)$(PREFIX), and /etc/casad
	@if [ ! -e build/casad ]; then $(MAKE) --no-print-directory build/casad; fi
	@meson configure build -Dprefix=$(PREFIX)
	@ninja -C build build.ninja >/dev/null
	@meson install -C build --no-rebuild --strip $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

uninstall: ## remove what install made; keeps /etc/casad and does not end enforcement (`casad detach` does)
	rm -f $(DESTDIR)$(PREFIX)/sbin/casad $(DESTDIR)$(PREFIX)/lib/systemd/system/casad.service
	rm -f $(DESTDIR)$(PREFIX)/lib/sysusers.d/casad.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/casad.conf
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/casad

format: ## clang-format everything
	@tools/lint.sh format

lint: build/build.ninja ## clang-format check, clang-tidy, shellcheck where it is there
	@tools/lint.sh check

asan: build-asan/build.ninja ## unit tests with address and undefined-behaviour sanitizers
	@ninja -C build-asan
	@ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	  meson test -C build-asan --no-rebuild --print-errorlogs --timeout-multiplier 4

fuzz: build-fuzz/build.ninja ## each libFuzzer target for FUZZ_SECONDS (60)
	@tools/fuzz.sh build-fuzz $(FUZZ_SECONDS)

test-k8s: deps-test build/casad ## against a real Kubernetes API server, which is built at first (5 minutes; root)
	@$(ROOT) env $(if $(CASAD_DEPS_CACHE),CASAD_DEPS_CACHE=$(CASAD_DEPS_CACHE)) CASAD_TEST_SLOW=1 sh -c 'test/k8s/build.sh && test/run build k8s'

test-systemd: deps-vm build/casad ## under a real systemd in a container (root)
	@$(ROOT) test/vm/systemd.sh build/casad

test-kernels: deps-vm build/casad ## on Debian's kernels 5.10, 6.1 and 6.12 in emulated machines
	@test/vm/kernels.sh build/casad

clean: ## remove the build directories of this file
	rm -rf build build-gcc build-asan build-fuzz
