#!/bin/sh
# What the pure rooms call: memory, strings, sorting, assertions and each other - no kernel, clock, randomness or
# SQLite. And no two functions of one name in different rooms: the linker would silently take the first.
set -eu
build=${BUILD:-build}
allowed='__assert_fail abort free bcmp memcmp memcpy memmove memset snprintf __snprintf_chk strcmp strlen strncmp strcpy strcspn strspn
__memcpy_chk __memmove_chk __memset_chk __strcpy_chk __stack_chk_fail qsort bsearch _GLOBAL_OFFSET_TABLE_'
failed=0

# What the rooms define themselves; of base only what is as pure as they are.
own=$(nm --defined-only -g "$build"/lib/lock.a "$build"/lib/raft.a "$build"/lib/replica.a | awk 'NF == 3 { print $3 }')
base=$(for file in alloc bytes holder id128 name parse; do
        nm --defined-only -g "$build/obj/base/$file.o" 2>/dev/null
done | awk 'NF == 3 { print $3 }')
for room in lock raft replica; do
        for symbol in $(nm -u "$build/lib/$room.a" | awk '$1 == "U" { print $2 }' | sort -u); do
                if ! printf '%s\n' $allowed $own $base | grep -qx -- "$symbol"; then
                        echo "purity: $room/ calls $symbol, which is not on the list in tests/purity.sh"
                        failed=$((failed + 1))
                fi
        done
done

for symbol in $(for archive in "$build"/lib/*.a; do nm --defined-only -g "$archive" | awk 'NF == 3 { print $3 }' | sort -u; done | sort | uniq -d); do
        echo "purity: $symbol is defined in more than one room"
        failed=$((failed + 1))
done
[ "$failed" = 0 ] && echo "purity: 1 passed, 0 failed" || { echo "purity: 0 passed, 1 failed"; exit 1; }
