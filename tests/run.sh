#!/bin/sh
# make run: a leader and two followers on loopback in a scratch directory, shown at work; no systemd, no root.
# With a terminal they stay until Enter is pressed; without one they stop at the end of the show.
set -eu
build=${BUILD:-build}
here=$(mktemp -d "${TMPDIR:-/tmp}/dlock-run-XXXXXX")
pids=

finish() {
        status=$?
        trap - EXIT INT TERM
        [ -z "$pids" ] || kill $pids 2>/dev/null || :
        wait
        [ "$status" = 0 ] || tail -n 20 "$here"/*.log >&2 || :
        rm -rf "$here"
        exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Ports are the kernel's choice on addresses of their own, so that nothing that runs here is in the way.
start() { # NAME INI ADDRESS ROLE...
        name=$1 ini=$2 address=$3 cluster=$4
        shift 4
        mkdir -p "$here/$name"
        printf '[node]\ndirectory = %s\n[listen]\nclients = %s\npeers = %s:%s\n[cluster]\n%s\n' \
                "$here/$name" "$here/$name.sock" "$address" "$port" "$cluster" > "$here/$ini"
        "$build/dlockd" --config-dir "$here" "$@" > "$here/$name.log" 2>&1 &
        pids="$pids $!"
}

show() { # prints a command as a person would type it, then runs it; its status is part of the show
        printf '\n$ %s\n' "$*" | sed "s|$here/||g"
        status=0
        "$build/$@" || status=$?
        [ "$status" = 0 ] || echo "(exit status $status)"
}

export XDG_STATE_HOME="$here/state"
port=${PORT:-$((20000 + $$ % 20000))}
start leader leader.ini 127.77.1.1 'bootstrap = now' leader
start follower-1 follower-1.ini 127.77.1.2 "join = 127.77.1.1:$port" follower 1
start follower-2 follower-2.ini 127.77.1.3 "join = 127.77.1.1:$port" follower 2
leader=$here/leader.sock one=$here/follower-1.sock two=$here/follower-2.sock

# Ready is when each of them knows a leader.
for node in "$leader" "$one" "$two"; do
        tries=0
        until "$build/dlockctl" --server "$node" --timeout 2 --json status 2>/dev/null | grep -q '"leader": *"leader"'; do
                tries=$((tries + 1))
                [ "$tries" -lt 100 ] || { echo "the nodes found no leader in 20 s:" >&2; exit 1; }
                sleep 0.2
        done
done

echo "A leader and two followers run in $here."
show dlockctl --server "$one" status
show dlockctl --server "$one" --client alice preempt backup
show dlockctl --server "$two" check backup
show dlockctl --server "$two" --client bob preempt backup
show dlockctl --server "$leader" --client bob release backup
show dlockctl --server "$leader" list
show dlockctl --server "$two" --client alice release backup
show dlockctl --server "$one" check backup
show dlockctl --server "$leader" history backup
show dlockctl --server "$two" run backup echo working
if [ -t 0 ]; then
        # With a state of its own: the user's own one should not remember a cluster that is gone in a minute.
        printf '\nTry it yourself in another terminal:\n  export XDG_STATE_HOME=%s DLOCK_SERVER=%s\n  %s/dlockctl status\nEnter stops the nodes and removes %s. ' \
                "$XDG_STATE_HOME" "$one" "$build" "$here"
        read -r _ || :
fi
