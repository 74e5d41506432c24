# Installing, and Debian packages.

# The build tree's dlockctl finds the library beside it; the installed one finds it where the linker looks.
$(BUILD)/install/dlockctl: $(DLOCKCTL_OBJECTS) $(BUILD)/libdlock.so.0
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(JSON_LIBS) $(SYSTEMD_LIBS)

$(BUILD)/install/libdlock.pc: packaging/libdlock.pc.in
	@mkdir -p $(@D)
	$(Q)sed -e 's|@prefix@|$(prefix)|; s|@libdir@|$(libdir)|; s|@includedir@|$(includedir)|; s|@version@|$(VERSION)|' $< > $@

MANUALS := $(wildcard packaging/man/*)

.PHONY: install deb
install: all $(BUILD)/install/dlockctl $(BUILD)/install/libdlock.pc
	install -d $(DESTDIR)$(bindir) $(DESTDIR)$(sbindir) $(DESTDIR)$(libdir)/pkgconfig $(DESTDIR)$(includedir) $(DESTDIR)$(sysconfdir)/dlock \
		$(DESTDIR)$(unitdir) $(DESTDIR)$(generatordir) $(DESTDIR)$(sysusersdir) $(DESTDIR)$(tmpfilesdir) $(DESTDIR)$(completionsdir) \
		$(DESTDIR)$(examplesdir)
	install -m 755 $(BUILD)/install/dlockctl $(DESTDIR)$(bindir)/dlockctl
	install -m 755 $(BUILD)/dlockd $(DESTDIR)$(sbindir)/dlockd
	install -m 755 $(BUILD)/dlock-generator $(DESTDIR)$(generatordir)/dlock-generator
	install -m 644 $(BUILD)/libdlock.so.0 $(DESTDIR)$(libdir)/libdlock.so.0
	ln -sf libdlock.so.0 $(DESTDIR)$(libdir)/libdlock.so
	install -m 644 $(BUILD)/libdlock.a $(DESTDIR)$(libdir)/libdlock.a
	install -m 644 $(BUILD)/install/libdlock.pc $(DESTDIR)$(libdir)/pkgconfig/libdlock.pc
	install -m 644 include/dlock.h $(DESTDIR)$(includedir)/dlock.h
	install -m 644 etc/leader.ini etc/follower.ini etc/client.ini $(DESTDIR)$(sysconfdir)/dlock/
	install -m 644 systemd/*.service systemd/*.socket systemd/*.target $(DESTDIR)$(unitdir)/
	install -m 644 systemd/dlock.sysusers $(DESTDIR)$(sysusersdir)/dlock.conf
	install -m 644 systemd/dlock-hold.sysusers $(DESTDIR)$(sysusersdir)/dlock-hold.conf
	install -m 644 systemd/dlock.tmpfiles $(DESTDIR)$(tmpfilesdir)/dlock.conf
	install -m 644 packaging/completions/dlockctl $(DESTDIR)$(completionsdir)/dlockctl
	install -m 644 packaging/examples/* $(DESTDIR)$(examplesdir)/
	for manual in $(MANUALS); do \
		install -D -m 644 $$manual $(DESTDIR)$(mandir)/man$${manual##*.}/$${manual##*/} || exit 1; \
	done

# From a copy of what is in the tree, so that the tree stays clean.
DEB_TREE = $(BUILD)/deb/dlock-$(VERSION)
deb:
	rm -rf $(BUILD)/deb
	mkdir -p $(DEB_TREE)
	cp -a Makefile README.md CHANGELOG LICENSE src include etc systemd tests packaging $(DEB_TREE)/
	cp -a packaging/debian $(DEB_TREE)/debian
	find $(DEB_TREE) -name __pycache__ -prune -exec rm -rf {} +
	cd $(DEB_TREE) && env -u BUILD -u MAKEFLAGS -u MAKELEVEL -u MFLAGS DEB_BUILD_OPTIONS="$(DEB_BUILD_OPTIONS)" dpkg-buildpackage -us -uc -b
	lintian --fail-on error,warning $(BUILD)/deb/*.changes
