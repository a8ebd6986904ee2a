# SPDX-License-Identifier: Apache-2.0
# brood - build, run, test.
#
#   make            build into build/$(MODE)/        make run      build and serve on 127.0.0.1:8080
#   make test       everything, under prove          make check    the fast inner loop
#   make bench      speed beside the alternatives    make fuzz T=frame|execute|...   libFuzzer, 60 s
#   make deps       apt-get what is missing          make install DESTDIR= PREFIX=/usr/local
#   make deps-languages   the ten languages: bash python node ruby php go c c++ java perl
#   make soak       stress-ng, slowhttptest, 10,000 namespaces, mixed load, fuzzing: ten minutes each
#   make layers headers format asan all-modes clean  MODE=dev|release|asan|clang|fault; config.mk overrides
MODE ?= release
-include config.mk
B := build/$(MODE)
PREFIX ?= /usr/local
.DEFAULT_GOAL := all

CC_clang := clang
CC := $(or $(CC_$(MODE)),gcc)
OPT_dev := -O1 -g3
OPT_release := -O2 -g -D_FORTIFY_SOURCE=3
OPT_clang := -O2 -g
OPT_fault := -O1 -g3 -DBROOD_FAULT # for make torture; serves nobody: a run can reach the file of faults
OPT_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LINK_asan := -fsanitize=address,undefined
WARN := -Wall -Wextra -Werror -Wshadow -Wundef -Wvla -Wwrite-strings -Wpointer-arith -Wcast-qual -Wconversion \
 -Wformat=2 -Wno-format-truncation -Wimplicit-fallthrough -Wswitch-enum -Wnull-dereference -Wstrict-prototypes \
 -Wmissing-prototypes -Wmissing-declarations
HARD := -fno-common -fstack-protector-strong -fstack-clash-protection -fcf-protection -ftrivial-auto-var-init=zero
probe = $(shell echo 'int x;' | $(CC) -Werror $1 -xc -c - -o /dev/null 2>/dev/null && echo $1)
CLANG_OFF := $(if $(filter clang,$(MODE)),-Wno-unused-command-line-argument -Wno-gnu-variable-sized-type-not-at-end \
 -Wno-missing-field-initializers) # macros of seccomp.h
CFLAGS := -std=gnu17 $(OPT_$(MODE)) $(foreach f,$(WARN) $(HARD),$(call probe,$f)) $(CLANG_OFF) -I. -isystem $B \
 -include lib/base.h -MMD -MP
LDFLAGS := $(LINK_$(MODE)) -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed
STATIC_LDFLAGS := -static-pie -Wl,-z,relro,-z,now,-z,noexecstack
BASH_CFLAGS := -I/usr/include/bash -I/usr/include/bash/include -I/usr/include/bash/builtins

# Which archive a program links, leaves last: the layers table once more, for the linker.
USES_brood := protocol keys policy lib
USES_brood-supervisor := supervisor languages keys policy volumes protocol lib
OBJS_brood-supervisor := $B/zygote/names.o $B/courier/allow.o $B/courier/address.o # the contracts' words, no more
OBJS_brood-frontend := $B/courier/allow.o
USES_brood-frontend := frontend store keys protocol lib
USES_brood-netd := net policy lib
USES_brood-courier := courier lib
# Of libcrypto the supervisor and the CLI take SHA-256 alone, 20 KB: who is root should not load the library.
SHA256 := -l:libcrypto.a -lm
LIBS_brood := -lprotobuf-c -lseccomp -ljansson -lyaml $(SHA256)
LIBS_brood-supervisor := -lprotobuf-c -lseccomp -ljansson -lcyaml -lyaml $(SHA256)
LIBS_brood-netd := -lnftables -lnl-3 # a program of its own, so that nobody else has these
LIBS_brood-courier := -lcurl -lseccomp -lpthread # likewise
LIBS_brood-frontend := -lh2o-evloop -lwslay -lssl -lcrypto -ljansson -lseccomp -lprotobuf-c -lsqlite3 -lpthread

obj = $(patsubst %.c,$B/%.o,$(wildcard $1/*.c))
arc = $(foreach f,$1,$B/$f.a)
PROGRAMS := brood brood-supervisor brood-frontend brood-netd brood-courier brood-zygote
all: $(PROGRAMS:%=$B/%) $B/brood-zygote.so

$B/%.o: %.c | $B/protocol/brood.pb-c.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIE $(CFLAGS_$(subst /,_,$*)) -c -o $@ $<
$B/policy/seccomp_default.o: etc/seccomp/default.json # .incbin
$B/store/schema.o: store/schema.sql
$B/languages/embedded.o: $(wildcard etc/languages.d/*.yaml)
$B/frontend/openapi.o: etc/openapi.yaml
# The generated file is not ours to warn about; it is included by protocol/ only.
$B/protocol/brood.pb-c.h: protocol/brood.proto
	@mkdir -p $(@D)
	protoc-c --c_out=$B/protocol --proto_path=protocol $<
$B/protocol/brood.pb-c.o: $B/protocol/brood.pb-c.h
	$(CC) -std=gnu17 -O2 -fPIE -I$B/protocol -c -o $@ $B/protocol/brood.pb-c.c
$B/protocol.a: $B/protocol/brood.pb-c.o
$B/%.a:
	@rm -f $@
	ar rcs $@ $^
$(foreach f,lib protocol policy volumes languages keys net courier store supervisor frontend cli,$(eval $B/$f.a: $(call obj,$f)))
$(foreach p,brood-supervisor brood-frontend brood-netd brood-courier,$(eval $B/$p: $(OBJS_$p) $(call arc,$(USES_$p)); $$(CC) $$(LDFLAGS) -o $$@ $$^ $$(LIBS_$p)))
$B/brood: $(call obj,cli) $(call arc,$(USES_brood)); $(CC) $(LDFLAGS) -o $@ $^ $(LIBS_brood)

# zygote/: the same sources twice, never sanitised (they run inside bash, or static): bash_*.c make the
# builtin, exec_eval.c the static fallback.
ZSRC := $(filter-out zygote/bash_%.c zygote/exec_eval.c,$(wildcard zygote/*.c)) lib/packet.c lib/fd.c lib/err.c lib/clock.c policy/install.c policy/set.c $(if $(filter fault,$(MODE)),lib/fault.c)
ZFLAGS := $(filter-out -fsanitize% -fno-sanitize%,$(CFLAGS)) $(shell pkg-config --cflags libnl-3.0)
ZLIBS := /usr/lib/x86_64-linux-gnu/libnl-3.a
zobj = $(patsubst %.c,$B/$1/%.o,$(ZSRC) $2)
$B/zso/zygote/bash_eval.o: ZFLAGS += $(BASH_CFLAGS) -DBROOD_FOREIGN_SOURCE -Wno-undef -Wno-strict-prototypes
$B/zso/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ZFLAGS) -fPIC -c -o $@ $<
$B/zst/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ZFLAGS) -fPIE -c -o $@ $<
$B/brood-zygote.so: $(call zobj,zso,zygote/bash_eval.c zygote/bash_calls.c)
	$(CC) -shared -Wl,-z,relro,-z,now -Wl,-Bsymbolic -o $@ $^ -lnl-3
$B/brood-zygote: $(call zobj,zst,zygote/exec_eval.c)
	$(CC) $(STATIC_LDFLAGS) -o $@ $^ $(ZLIBS) -lpthread

include tools/test.mk
CFLAGS_net_links := $(shell pkg-config --cflags libnl-3.0)
CFLAGS_net_conns := $(CFLAGS_net_links)
CFLAGS_net_filter := $(CFLAGS_net_links)
CFLAGS_net_netd := $(CFLAGS_net_links)
-include $(shell find $B -name '*.d' 2>/dev/null)

deps: ; tools/deps
deps-languages: ; tools/deps --languages && tools/seed
ready: ; @tools/deps --check || tools/deps
ready-tests:
	@tools/deps --tests --check || tools/deps --tests
	@tools/seed --check || tools/seed
	@tools/openapi/ready
run: ready
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@if [ "$$(id -u)" = 0 ]; then exec $B/brood-supervisor $(ARGS); else exec sudo -E $B/brood-supervisor $(ARGS); fi
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/lib/brood $(DESTDIR)/etc/brood/seccomp $(DESTDIR)/etc/brood/languages.d \
	  $(addprefix $(DESTDIR)$(PREFIX)/share/man/man,1 5 8) $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 755 $B/brood $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $B/brood-supervisor $(DESTDIR)$(PREFIX)/sbin/
	install -m 755 $B/brood-frontend $B/brood-netd $B/brood-courier $B/brood-zygote $B/brood-zygote.so $(DESTDIR)$(PREFIX)/lib/brood/
	install -m 644 etc/brood.yaml $(DESTDIR)/etc/brood/brood.yaml.example
	install -m 644 etc/policy.yaml $(DESTDIR)/etc/brood/policy.yaml.example
	install -m 644 etc/keys.yaml $(DESTDIR)/etc/brood/keys.yaml.example
	for f in etc/languages.d/*.yaml; do install -m 644 $$f $(DESTDIR)/etc/brood/languages.d/$${f##*/}.example; done
	install -m 644 etc/seccomp/default.json $(DESTDIR)/etc/brood/seccomp/default.json.example
	sed 's,/usr/local/,$(PREFIX)/,' etc/brood.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/brood.service
	for s in 1 5 8; do install -m 644 man/*.$$s $(DESTDIR)$(PREFIX)/share/man/man$$s/; done
clean: ; rm -rf build
help: ; @sed -n '2,10s/^# \{0,1\}//p' Makefile
.PHONY: all deps deps-languages ready ready-tests run install clean help
