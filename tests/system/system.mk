# Tests on booted hosts: root, and what tests/system/enclosure.py asks for. SYSTEM names some of them.
.PHONY: system
system: deb next
	python3 tests/system/selftest.py
	BUILD=$(BUILD) python3 tests/system/run.py $(SYSTEM)

.PHONY: soak-timers
soak-timers: deb
	BUILD=$(BUILD) SEED=$(SEED) TIMERS_SECONDS=$$(($(SOAK_SECONDS) / 2)) python3 tests/system/run.py timer_on_every_host
