# dlock - "make help" lists the verbs; README.md tells the rest.

VERSION := 1.0.0
.DEFAULT_GOAL := all

prefix ?= /usr
bindir ?= $(prefix)/bin
sbindir ?= $(prefix)/sbin
libdir ?= $(prefix)/lib/$(shell $(CC) -print-multiarch 2>/dev/null)
includedir ?= $(prefix)/include
mandir ?= $(prefix)/share/man
sysconfdir ?= /etc
unitdir ?= /lib/systemd/system
generatordir ?= /lib/systemd/system-generators
sysusersdir ?= $(prefix)/lib/sysusers.d
tmpfilesdir ?= $(prefix)/lib/tmpfiles.d
completionsdir ?= $(prefix)/share/bash-completion/completions
examplesdir ?= $(prefix)/share/doc/dlockctl/examples

BUILD ?= build
PKG_CONFIG ?= pkg-config

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef -Wswitch-enum -Werror
HARDENING := -fPIC -fstack-protector-strong -fstack-clash-protection -fvisibility=hidden -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu17 $(WARNINGS) $(HARDENING) $(CFLAGS) $(SANITIZE)
ALL_CPPFLAGS = -D_GNU_SOURCE -DDLOCK_VERSION='"$(VERSION)"' -Isrc -Iinclude $(CPPFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now,--as-needed $(LDFLAGS) $(SANITIZE)

# Asserts stay on in releases; -O0 builds cannot be fortified.
ifneq ($(filter -O0,$(CFLAGS)),)
HARDENING := $(filter-out -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2,$(HARDENING))
endif
# A sanitizer's allocator and stack checks replace the hardening ones.
ifneq ($(SANITIZE),)
HARDENING := -fPIC -fvisibility=hidden
endif

# --- rooms: one archive each; a program names the rooms it may use, so a wrong
# dependency is a link error -------------------------------------------------
ROOMS := base lock raft replica store wire net peer config dlockd libdlock
define ROOM
$(1)_OBJECTS := $$(patsubst src/%.c,$$(BUILD)/obj/%.o,$$(filter-out src/$(1)/main.c src/$(1)/main_%.c,$$(wildcard src/$(1)/*.c)))
$$(BUILD)/lib/$(1).a: $$($(1)_OBJECTS)
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(Q)$(AR) rcs $$@ $$^
endef
$(foreach room,$(ROOMS),$(eval $(call ROOM,$(room))))
rooms = $(patsubst %,$(BUILD)/lib/%.a,$(1))

Q := $(if $(V),,@)
SQLITE_LIBS := $(shell $(PKG_CONFIG) --libs sqlite3)
SYSTEMD_LIBS := $(shell $(PKG_CONFIG) --libs libsystemd)
INIH_LIBS := $(shell $(PKG_CONFIG) --libs inih)
JSON_LIBS := $(shell $(PKG_CONFIG) --libs json-c)
CHECK_LIBS = $(shell $(PKG_CONFIG) --libs check)

PROGRAMS := $(BUILD)/dlockd $(BUILD)/dlockctl $(BUILD)/dlock-generator $(BUILD)/libdlock.so.0 $(BUILD)/libdlock.a

.PHONY: all help
all: $(PROGRAMS)

help:
	@echo 'make all        build the daemon, the tool and the library into $(BUILD)/'
	@echo 'make run        start a leader and two followers on loopback in a scratch directory and show them at work'
	@echo 'make check      unit tests, fuzz corpora, and what can be checked without real processes'
	@echo 'make sim        whole clusters in one thread: all scenarios, and SEEDS of random runs (default 300); SEED=n replays one'
	@echo 'make scenarios  only what tests/sim/scenarios says; WORD=... tells all that happens in those with it in the title'
	@echo 'make sim-long   random runs until it is told to stop'
	@echo 'make mutations  bugs on purpose, one at a time: the simulator must find each'
	@echo 'make cluster    tests with real daemons, NEMESIS_SECONDS (default 240) of them under faults; SHARDS=n: n at a time (root)'
	@echo 'make soak       real daemons under faults for SOAK_SECONDS (default 3600), then timers on booted hosts for half as long; SEED=n repeats the schedules (root)'
	@echo 'make failover   how long clients wait after a killed leader and after a vanished host (root)'
	@echo 'make test       check and cluster: all that needs no booted host'
	@echo 'make system     tests on booted systemd hosts, from the Debian packages (root)'
	@echo 'make newcomer   the command lines of README.md in a fresh debootstrap chroot (root)'
	@echo 'make sanitize   check and cluster under ASan + UBSan, the threaded parts under TSan'
	@echo 'make fuzz       run each fuzzer for FUZZ_SECONDS (default 60)'
	@echo 'make bench      the bench table'
	@echo 'make deb        Debian packages into $(BUILD)/deb'
	@echo 'make install    DESTDIR and every directory variable are honoured'
	@echo 'make clean      remove $(BUILD)/'

$(BUILD)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/tests/%.o: tests/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CPPFLAGS) -Itests $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# --- programs ------------------------------------------------------------------
$(BUILD)/dlockd: $(BUILD)/obj/dlockd/main.o $(call rooms,dlockd replica peer net store config wire lock raft base)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(SYSTEMD_LIBS) $(SQLITE_LIBS) $(INIH_LIBS) -lpthread

$(BUILD)/dlock-generator: $(BUILD)/obj/config/main_generator.o $(call rooms,config base)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(INIH_LIBS)

DLOCKCTL_OBJECTS := $(patsubst src/%.c,$(BUILD)/obj/%.o,$(wildcard src/dlockctl/*.c))
$(BUILD)/dlockctl: $(DLOCKCTL_OBJECTS) $(BUILD)/libdlock.so.0
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(JSON_LIBS) $(SYSTEMD_LIBS) -Wl,-rpath,'$$ORIGIN'

$(BUILD)/libdlock.so.0: $(call rooms,libdlock config wire base) src/libdlock/libdlock.sym
	$(Q)$(CC) $(ALL_CFLAGS) $(filter-out -pie,$(ALL_LDFLAGS)) -shared -Wl,-soname,libdlock.so.0 -Wl,--version-script=src/libdlock/libdlock.sym \
		-o $@ -Wl,--whole-archive $(BUILD)/lib/libdlock.a -Wl,--no-whole-archive $(call rooms,config wire base) $(SYSTEMD_LIBS) $(INIH_LIBS)
	@ln -sf libdlock.so.0 $(BUILD)/libdlock.so

# The static library is one archive of its rooms; of config/ it takes what reads ini files.
$(BUILD)/libdlock.a: $(libdlock_OBJECTS) $(wire_OBJECTS) $(base_OBJECTS) $(BUILD)/obj/config/reader.o
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

-include tests/tests.mk packaging/packaging.mk

.PHONY: clean
clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
