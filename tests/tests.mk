# Tests. A unit test program tests/unit/test_NAME.c links the rooms named in ROOMS_NAME and nothing else.

ROOMS_base := base
ROOMS_lock := lock base
ROOMS_raft := raft base
ROOMS_replica := replica raft lock base
ROOMS_store := store base
ROOMS_wire := wire base
ROOMS_config := config base
ROOMS_peer := peer raft base
LIBS_store := $(SQLITE_LIBS) -lpthread
LIBS_config := $(INIH_LIBS)

UNIT_TESTS := $(patsubst tests/unit/test_%.c,%,$(wildcard tests/unit/test_*.c))
UNIT_PROGRAMS := $(patsubst %,$(BUILD)/tests/unit_%,$(UNIT_TESTS))

define UNIT_TEST
$$(BUILD)/tests/unit_$(1): $$(BUILD)/obj/tests/unit/test_$(1).o $$(call rooms,$$(ROOMS_$(1)))
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(ALL_LDFLAGS) -o $$@ $$^ $$(LIBS_$(1)) $$(CHECK_LIBS)
endef
$(foreach test,$(UNIT_TESTS),$(eval $(call UNIT_TEST,$(test))))

.PHONY: unit check
unit: $(UNIT_PROGRAMS)
	@for program in $(UNIT_PROGRAMS); do $$program || exit 1; done

check: unit
