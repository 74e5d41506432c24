#!/bin/bash
# What is written about the programs against what they are: every key of the ini files with what it accepts, every command,
# option and function has its place in the manual, the completion and the list of symbols; the header is C and C++ by itself,
# and the example of the library's page can be built as pkg-config says.
set -eu
build=${BUILD:-build} cc=${CC:-cc} man=packaging/man
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0

expect() { # WHAT COMMAND...
        local what=$1
        shift
        if "$@" >"$scratch/out" 2>&1; then
                passed=$((passed + 1))
        else
                echo "manual: $what"
                cat "$scratch/out"
                failed=$((failed + 1))
        fi
}

# --- dlock.ini(5): a key stands in its section, with the text in brackets of its comment in etc/ ---
for role in leader follower; do
        section='' accepted=''
        while IFS= read -r line; do
                case $line in
                '['*) section=$line ;;
                ';'*') '* | ';'*').') accepted=${line%).} accepted=${accepted##*(} ;;
                ?*' = '*)
                        key=${line%% = *}
                        awk -v section=".Ss $section" -v key=".It Cm $key" '
                                /^\.S[hs] /            { inside = $0 == section }
                                /^\.(It|El)/           { here = inside && $0 == key }
                                here' $man/dlock.ini.5 >"$scratch/paragraph"
                        expect "dlock.ini(5) does not tell of $key in $section what $role.ini does: $accepted" grep -qF -- "$accepted" "$scratch/paragraph"
                        ;;
                esac
        done <"etc/$role.ini"
done

# --- dlockctl(1) and the completion ---
"$build/dlockctl" --help >"$scratch/help"
for command in $(sed -n '/^  [a-z]/s/^  \([a-z-]*\) .*/\1/p' "$scratch/help"); do "$build/dlockctl" $command --help; done >>"$scratch/help"
for command in $(sed -n '/^  [a-z]/s/^  \([a-z-]*\) .*/\1/p' "$scratch/help"); do
        expect "dlockctl(1) says nothing of $command" grep -qE "^\.It Cm $command( |\$)" $man/dlockctl.1
        expect "the completion does not know $command" grep -qE "commands=.*[' ]$command[' ]" packaging/completions/dlockctl
done
for option in $(grep -oE -- '--[a-z]+(-[a-z]+)*' "$scratch/help" | sort -u); do
        expect "dlockctl(1) says nothing of $option" grep -qE "Fl Fl ${option#--}( |\$)" $man/dlockctl.1
        expect "the completion does not know $option" grep -qE "options.*[' ]$option[' ]" packaging/completions/dlockctl
done
for option in $("$build/dlockd" --help | grep -oE -- ' --[a-z-]+' | sort -u); do
        [ "$option" = --help ] || expect "dlockd(8) says nothing of $option" grep -qE "Fl Fl ${option#--}( |\$)" $man/dlockd.8
done

while IFS= read -r line; do
        expect "dlockctl(1) does not show what the shipped units have: $line" grep -qxF -- "$line" $man/dlockctl.1
done < <(grep -hE '^(Exec|Type|Restart|Timeout)' packaging/examples/*)

complete_line() { # WORD... - the last one is being typed
        (
                PATH=$scratch:$PATH
                _init_completion() { words=("${typed[@]}") cword=$((${#typed[@]} - 1)) cur=${typed[-1]} prev=${typed[-2]}; }
                __ltrim_colon_completions() { :; }
                . packaging/completions/dlockctl
                typed=("$@") COMPREPLY=()
                _dlockctl
                printf '%s,' "${COMPREPLY[@]}"
        )
}
cat >"$scratch/dlockctl" <<'END'
#!/bin/sh
[ "$*" = "--timeout 1 --json members" ] && printf '{"name":"leader","id":1}\n{"name":"follower-1","id":3}\n' && exit
[ "$*" = "--server /x.sock --timeout 1 --json list -- jo" ] || exit 2
printf '{"lock":"job a","owner":"x"}\n{"lock":"job:b","owner":"x"}\n'
END
chmod 755 "$scratch/dlockctl"
completes() { # EXPECTED WORD...
        local expected=$1
        shift
        [ "$(complete_line "$@")" = "$expected" ] || { echo "$(complete_line "$@")"; return 1; }
}
expect 'names of locks are not completed' completes 'job\ a,job:b,' dlockctl -s /x.sock check jo
expect 'commands are not completed' completes 'preempt,' dlockctl --json p
expect 'names of nodes are not completed' completes 'leader,' dlockctl transfer l
expect 'options are not completed' completes '--spread,' dlockctl bench --sp
expect 'the value of an option is taken for a name' completes ',' dlockctl -s /x.sock release --token jo
expect 'options of run are not completed' completes '--on-lost,' dlockctl run --on-l
expect 'what to do when the lock is lost is not completed' completes 'term,' dlockctl run --on-lost t
expect 'names of locks are not completed after options' completes 'job\ a,job:b,' dlockctl -s /x.sock run --ttl 5s jo
expect 'the command of a run is not completed' completes 'sha256sum,' dlockctl run --ttl 5s job sha256su
expect 'the command of a run behind -- is not completed' completes 'sha256sum,' dlockctl run job --ttl 5s -- sha256su

# --- the library ---
for symbol in $(sed -n 's/^ *\(dlock_[a-z_]*\);$/\1/p' src/libdlock/libdlock.sym); do
        expect "libdlock(3) says nothing of $symbol" grep -q "^\.Fn $symbol " $man/libdlock.3
        expect "dlock.h does not declare $symbol" grep -qE "^[a-z].*[ *]$symbol\(" include/dlock.h
        expect "the symbols file does not have $symbol" grep -q "^ $symbol@" packaging/debian/libdlock0.symbols
done
echo '#include "dlock.h"' >"$scratch/header.c"
expect 'dlock.h is not C99 by itself' $cc -std=c99 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only "$scratch/header.c"
if command -v c++ >/dev/null; then
        expect 'dlock.h is not C++ by itself' c++ -x c++ -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only "$scratch/header.c"
fi
{
        printf '#include <dlock.h>\nextern void work(uint64_t token);\nvoid work(uint64_t token) { (void)token; }\n'
        printf 'extern int work_a_little(uint64_t token);\nint work_a_little(uint64_t token) { return token == 0; }\n'
        awk '/^\.Sh/ { here = $0 == ".Sh EXAMPLES" }
                here && /^\.Bd/ { inside = 1; print first ? "int held(struct dlock *dlock);\nint held(struct dlock *dlock)\n{\nstruct dlock_answer answer;" : "int main(void)\n{"; first = 1; next }
                here && /^\.Ed/ { inside = 0; print "return 0;\n}" }
                inside' $man/libdlock.3
} >"$scratch/example.c"
flags=$(PKG_CONFIG_PATH=$build/install pkg-config --define-variable=includedir=include --define-variable="libdir=$build" --cflags --libs libdlock) || flags=--no-pkg-config
expect 'the examples of libdlock(3) do not build' $cc -std=c99 -Wall -Wextra -Werror -o "$scratch/example" "$scratch/example.c" $flags
expect 'pkg-config and the library differ in their version' test "dlockctl $(PKG_CONFIG_PATH=$build/install pkg-config --modversion libdlock)" = "$("$build/dlockctl" --version)"

echo "manual: $passed passed, $failed failed"
[ "$failed" = 0 ]
