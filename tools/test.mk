# SPDX-License-Identifier: Apache-2.0
# tools/test.mk - included by the Makefile: tests, checks, fuzzing, benchmark.
UNIT := $(patsubst t/unit/%.c,$B/t/%,$(wildcard t/unit/*.c))
FUZZ := $(patsubst t/fuzz/%.c,%,$(wildcard t/fuzz/*.c))
UNIT_ARCS := $(call arc,supervisor courier languages net keys policy volumes protocol lib)
$B/t/%: t/unit/%.c $(UNIT_ARCS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< $(UNIT_ARCS) $(LIBS_brood-supervisor)
$B/t/multipart: t/unit/multipart.c $B/frontend/multipart.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< $B/frontend/multipart.o
$B/replay/multipart: t/fuzz/multipart.c t/fuzz/replay/main.c $B/frontend/multipart.o $(call arc,lib)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< t/fuzz/replay/main.c $B/frontend/multipart.o $(call arc,lib)
FUZZ_ALSO_multipart := frontend/multipart.c
HEAD_SRC := frontend/http_head.c frontend/uri.c
HEAD_USES := $(HEAD_SRC:%.c=$B/%.o) $(call arc,lib)
$B/replay/head: t/fuzz/head.c t/fuzz/replay/main.c $(HEAD_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< t/fuzz/replay/main.c $(HEAD_USES)
FUZZ_ALSO_head := $(HEAD_SRC)
$B/t/head: t/unit/head.c $(HEAD_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< $(HEAD_USES)
# The frames of WebSockets.
WS_SRC := frontend/ws_frames.c frontend/json_out.c
WS_USES := $(WS_SRC:%.c=$B/%.o) $(call arc,lib)
$B/replay/ws: t/fuzz/ws.c t/fuzz/replay/main.c $(WS_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< t/fuzz/replay/main.c $(WS_USES) -lwslay
FUZZ_ALSO_ws := $(WS_SRC) -lwslay
STORE_USES := $(call arc,store lib)
$B/t/store $B/t/deliveries: $B/t/%: t/unit/%.c $(STORE_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< $(STORE_USES) -lsqlite3 -lcrypto -lpthread
$B/t/store_%: t/unit/store_%.c $(STORE_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< $(STORE_USES) -lsqlite3 -lcrypto -lpthread
# Leaves of the frontend, tested without its HTTP library.
STREAMS_USES := $B/frontend/stream.o $B/frontend/share.o $B/frontend/letters.o $(call arc,lib)
$B/t/streams: t/unit/streams.c $(STREAMS_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< $(STREAMS_USES) -lpthread
JSON_SRC := frontend/parse.c frontend/parse_work.c frontend/parse_feed.c frontend/lang.c frontend/json_out.c
JSON_USES := $(JSON_SRC:%.c=$B/%.o) $(call arc,protocol lib)
$B/t/json: t/unit/json.c $(JSON_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< $(JSON_USES) -ljansson -lprotobuf-c
# Work on files and placing: leaves of the zygote that need no namespace.
FILES_USES := $(patsubst %,$B/zygote/%.o,files files_list tree place outputs) $(call arc,lib)
$B/t/files $B/t/files_hostile $B/t/files_placed: $B/t/%: t/unit/%.c $(FILES_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< $(FILES_USES)
$B/replay/execute_json: t/fuzz/execute_json.c t/fuzz/replay/main.c $(JSON_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< t/fuzz/replay/main.c $(JSON_USES) -ljansson -lprotobuf-c
SECCOMP_USES := $(call arc,policy lib)
$B/replay/seccomp_json: t/fuzz/seccomp_json.c t/fuzz/replay/main.c $(SECCOMP_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< t/fuzz/replay/main.c $(SECCOMP_USES) -lseccomp -ljansson
$B/replay/policy: t/fuzz/policy.c t/fuzz/replay/main.c $(SECCOMP_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< t/fuzz/replay/main.c $(SECCOMP_USES) -lseccomp -ljansson -lyaml
FUZZ_ALSO_policy := $(filter-out policy/load.c,$(wildcard policy/*.c)) -lseccomp -ljansson -lyaml
FUZZ_ALSO_seccomp_json := policy/seccomp.c -lseccomp -ljansson
FUZZ_ALSO_execute_json := $(JSON_SRC) -ljansson
$B/replay/policy_net: t/fuzz/policy_net.c t/fuzz/replay/main.c $B/policy/net.o $(call arc,lib)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< t/fuzz/replay/main.c $B/policy/net.o $(call arc,lib)
FUZZ_ALSO_policy_net := policy/net.c
WEBHOOK_SRC := courier/allow.c courier/address.c
WEBHOOK_USES := $(WEBHOOK_SRC:%.c=$B/%.o) $(call arc,lib)
$B/replay/webhook_url: t/fuzz/webhook_url.c t/fuzz/replay/main.c $(WEBHOOK_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< t/fuzz/replay/main.c $(WEBHOOK_USES)
FUZZ_ALSO_webhook_url := $(WEBHOOK_SRC)
LANGUAGE_USES := $(call arc,languages lib)
$B/replay/language: t/fuzz/language.c t/fuzz/replay/main.c $(LANGUAGE_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< t/fuzz/replay/main.c $(LANGUAGE_USES) -lyaml
FUZZ_ALSO_language := languages/file.c languages/set.c -lyaml
KEYS_USES := $(call arc,keys lib)
$B/replay/keys: t/fuzz/keys.c t/fuzz/replay/main.c $(KEYS_USES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< t/fuzz/replay/main.c $(KEYS_USES) -lyaml $(SHA256)
FUZZ_ALSO_keys := $(wildcard keys/*.c) -lyaml $(SHA256)
# A fuzz target without libFuzzer: replays the files named on its command line.
$B/replay/%: t/fuzz/%.c t/fuzz/replay/main.c $(call arc,protocol lib)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $< t/fuzz/replay/main.c $(call arc,protocol lib) -lprotobuf-c
unit: $(UNIT)
replay: $(FUZZ:%=$B/replay/%)
	@for t in $(FUZZ); do $B/replay/$$t t/fuzz/corpus/$$t/* || exit 1; done
fuzz: $B/protocol/brood.pb-c.h
	@mkdir -p build/fuzz
	clang -std=gnu17 -g -O1 -fsanitize=fuzzer,address,undefined -I. -Ibuild/$(MODE) -include lib/base.h -o build/fuzz/$(T) \
	  t/fuzz/$(T).c $(FUZZ_ALSO_$(T)) $(filter-out lib/log.c,$(wildcard lib/*.c protocol/*.c)) $B/protocol/brood.pb-c.c -lprotobuf-c -lseccomp -lyaml
	@mkdir -p build/fuzz/corpus-$(T)
	build/fuzz/$(T) -max_total_time=$(or $(SECONDS),60) build/fuzz/corpus-$(T) t/fuzz/corpus/$(T)
# The whole frontend, from outside, under sanitizers.
fuzz-http: ; @$(MAKE) --no-print-directory -s MODE=asan all && B=build/asan tools/fuzz-http $(or $(SECONDS),60)
layers: ; @tools/layers
# Each header alone, twice; through stdin, since gcc warns about #pragma once in a main file.
headers: $B/protocol/brood.pb-c.h
	@for h in $(filter-out build/%,$(wildcard */*.h)); do printf '#include "%s"\n#include "%s"\n' $$h $$h | \
	  $(CC) -std=gnu17 -fsyntax-only -Wall -Werror -I. -I$B -include lib/base.h -xc - || exit 1; done
format:
	@if command -v clang-format >/dev/null; then clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h'); \
	  else echo "format: skipped, clang-format is not installed"; [ -z "$$REQUIRE" ]; fi
BENCH_OBJ := $(wildcard bench/*.c)
$B/brood-bench: $(BENCH_OBJ) $(call arc,protocol lib)
	$(CC) $(CFLAGS) -fPIE $(LDFLAGS) -o $@ $(BENCH_OBJ) $(call arc,protocol lib) -lprotobuf-c -lpthread
bench: all $B/brood-bench ; bench/run $B
check: all unit layers headers format replay ; B=$B prove --exec '' $(UNIT) && B=$B prove -It/lib $(or $(T),t/[0-4]*.t)
test: ready-tests
	@$(MAKE) --no-print-directory -j$$(nproc) all unit $B/brood-bench
	@$(MAKE) --no-print-directory -j$$(nproc) MODE=fault all # for t/950 to t/959
	@$(MAKE) --no-print-directory layers headers replay
	B=$B prove --timer --exec '' $(UNIT) && rm -rf $B/answers && mkdir $B/answers && chmod 1777 $B/answers && \
	  B=$B RECORD_ANSWERS=$(CURDIR)/$B/answers tools/prove --timer -It/lib t/*.t
	@tools/isolation-layers $B
# Every handled call of every role fails in turn; TORTURE_SECONDS=60: longer than the first call at each place takes.
torture: ; @$(MAKE) --no-print-directory MODE=fault all && B=build/fault prove --timer -It/lib t/95[0-9]*.t
# What takes long: other people's attackers, ten thousand namespaces, mixed load for ten minutes (SECONDS), then each
# fuzz target and the whole frontend for ten minutes (FUZZ_SECONDS; as many at once as there are processors).
FUZZ_SECONDS ?= 600
soak: all $B/brood-bench
	B=$B tools/adversaries
	CHURN=$(or $(CHURN),10000) B=$B prove -It/lib t/970-churn.t
	bench/soak $B $(SECONDS)
	@$(MAKE) --no-print-directory soak-fuzz
soak-fuzz:
	@$(MAKE) --no-print-directory -j$$(nproc) $(FUZZ:%=soak-fuzz-%)
	@$(MAKE) --no-print-directory fuzz-http SECONDS=$(FUZZ_SECONDS)
$(FUZZ:%=soak-fuzz-%): soak-fuzz-%: ; @$(MAKE) --no-print-directory fuzz T=$* SECONDS=$(FUZZ_SECONDS)
# On a kernel with cgroup v2 only, and an old one, in a virtual machine: limits, kills, policies, probes, egress.
VM_TESTS := 430-limits 470-nested 487-kept-cgroups 800-escapes-cgroup 840-confined 910-stop 150-policy 850-probe 852-probe-policies \
  860-egress 800-escapes-egress-heir 961-killed-beside 960-killed
test-cgroup2: all ; tools/cgroup2-vm $B $(VM_TESTS:%=t/%.t)
asan: ; $(MAKE) MODE=asan all unit replay && B=build/asan prove --exec '' $(patsubst t/unit/%.c,build/asan/t/%,$(wildcard t/unit/*.c))
all-modes: ; for m in asan release clang; do $(MAKE) MODE=$$m all unit replay || exit 1; done
.PHONY: unit replay fuzz fuzz-http layers headers format bench check test torture soak soak-fuzz test-cgroup2 asan all-modes
