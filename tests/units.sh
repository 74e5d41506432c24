#!/bin/sh
# The unit files against systemd, against the settings' defaults, and the generator that keeps them in step.
set -eu
build=${BUILD:-build}
command -v systemd-analyze >/dev/null || { echo "units: systemd-analyze is missing: apt-get install systemd"; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0

# $1: the fact; the rest: a command that must succeed.
check() {
        fact=$1
        shift
        if "$@" >"$scratch/said" 2>&1; then
                passed=$((passed + 1))
        else
                failed=$((failed + 1))
                echo "units: not so: $fact"
                sed 's/^/    /' "$scratch/said"
        fi
}

# --- exposure: 2.0 at most; the tool fails above its threshold ---
for unit in systemd/*.service; do
        check "$unit scores at most 2.0" systemd-analyze security --offline=true --no-pager --threshold=20 "$unit"
done

# --- addresses are the settings' defaults ---
same_addresses() { # UNIT KEY ROLE...
        unit=$1 key=$2
        shift 2
        "$build/dlockd" --config-dir "$scratch/empty" --check-config "$@" | sed -n "s/^$key = //p" | tr ',' '\n' | sed 's/^ *//' | sort > "$scratch/ini"
        sed -n 's/^ListenStream=//p' "systemd/$unit" | sed "s/%i/${2:-}/" | sort > "$scratch/unit"
        diff "$scratch/ini" "$scratch/unit"
}
mkdir "$scratch/empty"
check "the leader's client sockets are the defaults" same_addresses dlock-leader.socket clients leader
check "the leader's peer socket is the default" same_addresses dlock-leader-peer.socket peers leader
check "a follower's client sockets are the defaults" same_addresses dlock-follower@.socket clients follower 9
check "a follower's peer socket is the default" same_addresses dlock-follower-peer@.socket peers follower 9
for unit in systemd/*.socket; do
        case $unit in *peer*) name=peers ;; *) name=clients ;; esac
        check "$unit passes its descriptors as $name" grep -qx "FileDescriptorName=$name" "$unit"
done

# --- the generator ---
generate() { # runs it on the ini files in $scratch/etc; what it made is in $scratch/out, what it said in $scratch/words
        rm -rf "$scratch/out"
        mkdir "$scratch/out"
        DLOCK_CONFIG_DIR=$scratch/etc "$build/dlock-generator" "$scratch/out" 2>"$scratch/words"
}
made() { (cd "$scratch/out" && find . -type f | sort); }
is_made() { # FILE LISTEN...: it is the drop-in with these addresses only
        file=$scratch/out/$1.d/50-dlock.conf
        shift
        { echo ListenStream=; printf 'ListenStream=%s\n' "$@"; } > "$scratch/wanted"
        grep '^ListenStream=' "$file" | diff "$scratch/wanted" - && grep -qx 'FreeBind=yes' "$file"
}
may_write() { # FILE PATH: it is a drop-in that opens this path
        grep -Fqx "ReadWritePaths=\"-$2\"" "$scratch/out/$1.d/50-dlock.conf"
}
nothing_is_made() { [ -z "$(made)" ]; }
one_line_is_said() { [ "$(wc -l < "$scratch/words")" = 1 ] && grep -q "$1" "$scratch/words"; }

cp -r etc "$scratch/etc"
check "the shipped files need no drop-in" generate
check "the shipped files make no drop-in" nothing_is_made
printf '[listen]\nclients = /srv/l.sock\npeers = 10.0.0.1:7402\nallow_insecure = yes\n' > "$scratch/etc/leader.ini"
printf '[listen]\npeers = 127.78.0.%%i:1\n' > "$scratch/etc/follower.ini"
printf '[listen]\nclients = none\n' > "$scratch/etc/follower-3.ini"
check "changed files are read" generate
check "the leader's clients move" is_made dlock-leader.socket /srv/l.sock
check "the leader's peers move" is_made dlock-leader-peer.socket 10.0.0.1:7402
check "the followers' peers move, all of them" is_made dlock-follower-peer@.socket '127.78.0.%i:1'
check "a follower without clients has a socket that never starts" grep -qx 'ConditionPathExists=!/' "$scratch/out/dlock-follower@3.socket.d/50-dlock.conf"
check "nothing else is made" [ "$(made | wc -l)" = 4 ]
cp etc/follower.ini "$scratch/etc/follower.ini"
printf '[node]\nwitness = yes\n' > "$scratch/etc/follower-3.ini"
check "a witness is read" generate
check "a witness has a socket for clients that never starts" grep -qx 'ConditionPathExists=!/' "$scratch/out/dlock-follower@3.socket.d/50-dlock.conf"
check "a witness has a socket for peers like any other" [ "$(made | grep -c follower)" = 1 ]
sed -i 's/^witness = no/witness = yes/' "$scratch/etc/follower.ini"
printf '[node]\nwitness = no\n' > "$scratch/etc/follower-3.ini"
check "witnesses are read" generate
check "all followers are witnesses" grep -qx 'ConditionPathExists=!/' "$scratch/out/dlock-follower@.socket.d/50-dlock.conf"
check "but for the one that is not" is_made dlock-follower@3.socket '/run/dlock/follower-%i.sock' '127.77.0.%i:7401'
check "that is all" [ "$(made | grep -c follower)" = 2 ]
printf '[listen]\nclients = /srv/%%i.sock\n' > "$scratch/etc/follower-3.ini"
check "a witness with clients is no failed boot" generate
check "a witness with clients is named" one_line_is_said "follower-3.ini:2: clients names addresses, but a witness"
rm "$scratch/etc/follower.ini" "$scratch/etc/follower-3.ini"
printf '[node]\ndirectory = /srv/a "b" c\n' > "$scratch/etc/leader.ini"
printf '[node]\ndirectory = /srv/%%i\n' > "$scratch/etc/follower.ini"
check "directories are read" generate
check "the leader may write to its directory" may_write dlock-leader.service '/srv/a \"b\" c'
check "the followers may write to theirs" may_write dlock-follower@.service '/srv/%i'
check "no other unit is touched" [ "$(made | wc -l)" = 2 ]
rm "$scratch/etc/follower.ini"
printf '[listen]\nclients = nonsense\n' > "$scratch/etc/leader.ini"
check "a bad file is no failed boot" generate
check "a bad file makes nothing" nothing_is_made
check "a bad file is named once" one_line_is_said "leader.ini:2"

echo "units: $passed passed, $failed failed"
[ "$failed" = 0 ]
