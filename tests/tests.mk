# Tests. A unit test program tests/unit/test_NAME.c links the rooms named in ROOMS_NAME and nothing else,
# but for what tests share in tests/unit/KIT_NAME.c, and OBJECTS_NAME of dlockctl, which is no room of functions.

ROOMS_base := base
ROOMS_lock := lock base
ROOMS_lease := lock base
ROOMS_queue := lock base
ROOMS_delay := lock base
ROOMS_modes := lock base
ROOMS_together := lock base
ROOMS_orders := lock base
ROOMS_events := lock base
ROOMS_raft := raft base
ROOMS_replica := replica raft lock base
ROOMS_store := store base
ROOMS_wire := wire base
ROOMS_config := config base
ROOMS_client := libdlock config wire base
ROOMS_failover := libdlock config wire base
ROOMS_cancel := libdlock config wire base
ROOMS_fence := libdlock config wire base
ROOMS_release := libdlock config wire base
ROOMS_operator := libdlock config wire base
ROOMS_identity := libdlock config wire base
ROOMS_hostile := libdlock config wire base
ROOMS_session := libdlock config wire base
ROOMS_hold := libdlock config wire base
ROOMS_wait := libdlock config wire base
ROOMS_further := libdlock config wire base
ROOMS_watch := libdlock config wire base
ROOMS_peer := peer raft base
ROOMS_tree := base
OBJECTS_tree := dlockctl/tree
ROOMS_hub := peer net raft base
LIBS_store := $(SQLITE_LIBS) -lpthread
KIT_raft := raft_kit
KIT_lease := lock_kit
KIT_queue := lock_kit
KIT_delay := lock_kit
KIT_modes := lock_kit
KIT_together := lock_kit
KIT_orders := lock_kit
KIT_store := store_kit
STORE_TESTS := store store_refused store_crash store_snapshot store_backup
$(foreach test,$(filter-out store,$(STORE_TESTS)),$(eval ROOMS_$(test) := $(ROOMS_store))$(eval LIBS_$(test) := $(LIBS_store))$(eval KIT_$(test) := $(KIT_store)))
LIBS_store_crash += -Wl,--wrap=sqlite3_busy_timeout
LIBS_config := $(INIH_LIBS)
LIBS_hub := $(SYSTEMD_LIBS) -Wl,--wrap=stream_connect
LIBS_client := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_failover := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_cancel := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_fence := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_release := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_operator := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_identity := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_hostile := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_session := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_hold := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_wait := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_further := $(SYSTEMD_LIBS) $(INIH_LIBS)
LIBS_watch := $(SYSTEMD_LIBS) $(INIH_LIBS)

UNIT_TESTS := $(patsubst tests/unit/test_%.c,%,$(wildcard tests/unit/test_*.c))
UNIT_PROGRAMS := $(patsubst %,$(BUILD)/tests/unit_%,$(UNIT_TESTS))

define UNIT_TEST
$$(BUILD)/tests/unit_$(1): $$(BUILD)/obj/tests/unit/test_$(1).o $$(patsubst %,$$(BUILD)/obj/tests/unit/%.o,$$(KIT_$(1))) $$(patsubst %,$$(BUILD)/obj/%.o,$$(OBJECTS_$(1))) $$(call rooms,$$(ROOMS_$(1)))
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(ALL_LDFLAGS) -o $$@ $$^ $$(LIBS_$(1)) $$(CHECK_LIBS)
endef
$(foreach test,$(UNIT_TESTS),$(eval $(call UNIT_TEST,$(test))))

.PHONY: unit check
# check's own 4 seconds for a test are few under sanitizers, on a machine that does other things, too.
unit: $(UNIT_PROGRAMS)
	@for program in $(UNIT_PROGRAMS); do CK_DEFAULT_TIMEOUT=120 $$program || { echo "error: $$program: status $$?"; exit 1; }; done

check: unit

# Fuzzers: tests/fuzz/fuzz_NAME.c links the rooms of FUZZ_ROOMS_NAME. "make check" replays
# the corpus with any compiler; "make fuzz" runs libFuzzer, which only clang has.
FUZZ_ROOMS_wire := wire base
FUZZ_ROOMS_peer := peer raft base
FUZZ_ROOMS_entry := replica lock raft base
FUZZ_ROOMS_ini := config base
FUZZ_LIBS_ini := $(INIH_LIBS)
FUZZ_SECONDS ?= 60

FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
REPLAYS := $(patsubst %,$(BUILD)/tests/replay_%,$(FUZZERS))

define FUZZER
$$(BUILD)/tests/replay_$(1): $$(BUILD)/obj/tests/fuzz/fuzz_$(1).o $$(BUILD)/obj/tests/fuzz/replay.o $$(call rooms,$$(FUZZ_ROOMS_$(1)))
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(ALL_LDFLAGS) -o $$@ $$^ $$(FUZZ_LIBS_$(1))
$$(BUILD)/tests/fuzz_$(1): $$(BUILD)/obj/tests/fuzz/fuzz_$(1).o $$(call rooms,$$(FUZZ_ROOMS_$(1)))
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(ALL_LDFLAGS) -fsanitize=fuzzer -o $$@ $$^ $$(FUZZ_LIBS_$(1))
endef
$(foreach fuzzer,$(FUZZERS),$(eval $(call FUZZER,$(fuzzer))))

.PHONY: replay fuzz fuzz-run
replay: $(REPLAYS)
	@for name in $(FUZZERS); do $(BUILD)/tests/replay_$$name tests/fuzz/corpus/$$name || exit 1; done

fuzz:
	$(MAKE) BUILD=$(BUILD)/fuzz CC=clang SANITIZE='-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all' CFLAGS='-O1 -g' fuzz-run

fuzz-run: $(patsubst %,$(BUILD)/tests/fuzz_%,$(FUZZERS))
	@for name in $(FUZZERS); do mkdir -p $(BUILD)/corpus/$$name && \
		$(BUILD)/tests/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=0 -verbosity=0 \
		$(BUILD)/corpus/$$name tests/fuzz/corpus/$$name || exit 1; done

check: replay

# The simulator: whole clusters of the shipped rooms in one thread. SEED=n replays one with its timeline.
SIM_OBJECTS := $(patsubst tests/%.c,$(BUILD)/obj/tests/%.o,$(wildcard tests/sim/*.c))
$(BUILD)/tests/sim: $(SIM_OBJECTS) $(call rooms,replica raft lock base)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^

.PHONY: sim scenarios sim-long sim-coverage mutations
SEEDS ?= 300
sim: $(BUILD)/tests/sim $(if $(SEED),,scenarios)
	@$(BUILD)/tests/sim $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))
# Until it is told to stop, from a first seed that nobody else has.
sim-long: $(BUILD)/tests/sim
	@$(BUILD)/tests/sim --first $$(date +%s)000000 --seeds 18446744073709551615
# WORD picks scenarios by their title; then it tells all that happens.
SCENARIOS := $(wildcard tests/sim/scenarios/*.txt)
scenarios: $(BUILD)/tests/sim
	@$(BUILD)/tests/sim $(if $(WORD),--verbose --word '$(WORD)') --scenario $(SCENARIOS)
check: sim

# What of lock/, raft/ and replica/ the simulator runs: all but what tests/sim/uncovered.txt has a reason for.
COVERAGE := $(BUILD)/coverage
sim-coverage:
	@find $(COVERAGE) -name '*.gcda' -delete 2>/dev/null || true
	@$(MAKE) BUILD=$(COVERAGE) CFLAGS='-O1 -g --coverage -fprofile-update=single' LDFLAGS=--coverage $(COVERAGE)/tests/sim
	@$(COVERAGE)/tests/sim --scenario $(SCENARIOS)
	@$(COVERAGE)/tests/sim --seeds 3000
	@python3 tests/sim/coverage.py $(COVERAGE) tests/sim/uncovered.txt

# Bugs on purpose (base/mutation.h), in a build of their own: each must be found.
mutations: scenarios
	@$(MAKE) BUILD=$(BUILD)/mutations CPPFLAGS='$(CPPFLAGS) -DDLOCK_MUTATIONS' $(BUILD)/mutations/tests/sim
	@python3 tests/sim/mutations.py $(BUILD)/mutations/tests/sim $(SCENARIOS)

# A sanitizer adds calls of its own.
ifeq ($(SANITIZE),)
.PHONY: purity
purity: $(foreach room,$(ROOMS),$(BUILD)/lib/$(room).a)
	@BUILD=$(BUILD) tests/purity.sh
.PHONY: units
units: $(BUILD)/dlockd $(BUILD)/dlock-generator
	@BUILD=$(BUILD) tests/units.sh
.PHONY: manual
manual: $(BUILD)/dlockd $(BUILD)/dlockctl $(BUILD)/libdlock.so.0 $(BUILD)/install/libdlock.pc
	@BUILD=$(BUILD) CC='$(CC)' tests/manual.sh
check: purity units manual
endif

# The judge of histories, which the tests below rely on.
.PHONY: history
history:
	@python3 tests/cluster/run.py test_history.
check: history

# Real daemons, on loopback and on a network of our own. WORDS picks the tests whose name has one of them;
# SHARDS=n runs n of them at a time.
.PHONY: cluster sanitize sanitize-unit sanitize-cluster
FAULTS := $(BUILD)/tests/network $(BUILD)/tests/disk.so $(BUILD)/tests/last_call.so
# A program that holds a lease, with the library as others have it.
$(BUILD)/tests/holder: $(BUILD)/obj/tests/cluster/holder.o $(BUILD)/libdlock.so.0
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ -Wl,-rpath,'$$ORIGIN/..'
$(BUILD)/tests/network: $(BUILD)/obj/tests/cluster/network.o
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^
# Preloaded into whatever runs: without a sanitizer's own calls.
$(BUILD)/tests/%.so: tests/cluster/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(filter-out $(SANITIZE),$(ALL_CFLAGS)) $(filter-out -pie $(SANITIZE),$(ALL_LDFLAGS)) -shared -o $@ $< -ldl -lpthread

# The program that an upgrade brings: one feature level higher.
.PHONY: next
next:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/next CPPFLAGS='$(CPPFLAGS) -DRAFT_FEATURE_LEVEL=2' $(BUILD)/next/dlockd

cluster: $(BUILD)/dlockd $(BUILD)/dlockctl $(BUILD)/tests/holder $(FAULTS) next
	BUILD=$(BUILD) python3 tests/cluster/run.py $(WORDS)

# Faults for SOAK_SECONDS, then timers on booted hosts (tests/system) for half as long. SEED=n repeats the schedules;
# tests/cluster/trial.py repeats one of them.
.PHONY: soak soak-nodes failover
SOAK_SECONDS ?= 3600
soak:
	$(MAKE) soak-nodes
	$(MAKE) soak-timers

soak-nodes: $(BUILD)/dlockd $(FAULTS)
	BUILD=$(BUILD) SOAK_SECONDS=$(SOAK_SECONDS) SEED=$(SEED) python3 tests/cluster/soak.py

# From a fault to the next granted lock, TRIALS of each; and FULL_LOAD_SECONDS without an election.
failover: $(BUILD)/dlockd $(BUILD)/dlockctl $(FAULTS)
	BUILD=$(BUILD) python3 tests/cluster/failover.py

# The threads are those of the store; the daemon runs a part of its tests under TSan because that is slow.
ASAN := SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all' CFLAGS='-O1 -g -fno-omit-frame-pointer'
TSAN := SANITIZE=-fsanitize=thread CFLAGS='-O1 -g'
sanitize: sanitize-unit sanitize-cluster
sanitize-unit:
	ORDERS_SEEDS=10 $(MAKE) BUILD=$(BUILD)/asan $(ASAN) unit replay sim
	$(MAKE) BUILD=$(BUILD)/tsan $(TSAN) UNIT_TESTS='$(STORE_TESTS)' unit
sanitize-cluster:
	PATIENCE=90 NEMESIS_SECONDS=70 MANY_LOCKS=100000 $(MAKE) BUILD=$(BUILD)/asan $(ASAN) cluster
	PATIENCE=90 $(MAKE) BUILD=$(BUILD)/tsan $(TSAN) cluster WORDS='200_clients rules 30_kills_of_followers'

# The show of README.md, and all the tests that need no booted host.
.PHONY: run test
run: $(BUILD)/dlockd $(BUILD)/dlockctl
	@BUILD=$(BUILD) tests/run.sh

test: check cluster

# Booted hosts.
-include tests/system/*.mk

# Printed, not asserted. BENCH_SECONDS per row.
.PHONY: bench
BENCH_SECONDS ?= 5
bench: $(BUILD)/dlockd $(BUILD)/dlockctl
	@BUILD=$(BUILD) python3 tests/bench/run.py $(BENCH_SECONDS)

# A fresh Debian, a clone, the README by the letter (root).
.PHONY: newcomer
newcomer:
	tests/newcomer.sh
