#!/bin/sh
# make newcomer: a fresh minimal Debian, a clone of this tree, and the two command lines of README.md, by the letter; then
# the lines of its section on installing, which make the packages and install them.
# Needs root, git, debootstrap and the package archive that this machine's own apt uses.
set -eu
cd "$(dirname "$0")/.."
suite=${SUITE:-bookworm}

for program in debootstrap git unshare; do
        command -v $program >/dev/null || { echo "newcomer: $program is missing: apt-get install debootstrap git util-linux"; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "newcomer: must be root, to debootstrap"; exit 1; }
root=$(mktemp -d "${TMPDIR:-/var/tmp}/dlock-newcomer-XXXXXX")
chmod 755 "$root"                       # others than root live in it too
trap 'rm -rf --one-file-system "$root"' EXIT
trap 'exit 130' INT TERM

mirror=$(python3 -c 'import sys; sys.path.insert(0, "tests/system"); import base; print(base.mirror())')
debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$root.log" 2>&1 || { tail -n 20 "$root.log"; rm -f "$root.log"; exit 1; }
rm -f "$root.log"

# Packages come from where this machine has them from.
if [ "$suite" = "$(. /etc/os-release; echo "$VERSION_CODENAME")" ]; then
        rm -f "$root/etc/apt/sources.list"
        cp -a /etc/apt/sources.list* "$root/etc/apt/"
fi
for file in /etc/apt/apt.conf.d/*; do
        grep -qiE '^ *(Dpkg|APT::Update)::' "$file" || cp -a "$file" "$root/etc/apt/apt.conf.d/"
done
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/hosts "$root/etc/hosts"
git clone -q . "$root/srv/dlock"

# The second line has just run the unit tests.
export DEB_BUILD_OPTIONS=nocheck
passed=0 failed=0 number=0
# The command lines are the indented ones that begin with apt-get update; "show" is the first, "test" the second.
sed -n 's/^    \(apt-get update.*\)/\1/p' README.md > "$root/srv/lines"
[ "$(wc -l < "$root/srv/lines")" = 2 ] || { echo "newcomer: README.md has not two command lines that begin with apt-get update"; exit 1; }
# The third follows upon the others, as in README.md: its first lines, up to the first that is not indented.
sed -n '/^## Install/,/^[^ #]/ s/^    //p' README.md | paste -s -d ';' >> "$root/srv/lines"
[ "$(wc -l < "$root/srv/lines")" = 3 ] || { echo "newcomer: README.md says not how to install"; exit 1; }
while read -r line; do
        number=$((number + 1))
        printf 'set -e\nexport DEBIAN_FRONTEND=noninteractive\ncd /srv/dlock\n%s\n' "$line" > "$root/srv/line"
        echo "newcomer: $line"
        if unshare --mount --pid --fork --kill-child sh -c '
                mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/tmp" &&
                exec chroot "$0" /bin/sh /srv/line' "$root" </dev/null; then
                passed=$((passed + 1))
        else
                failed=$((failed + 1))
        fi
done < "$root/srv/lines"
echo "newcomer: $passed passed, $failed failed"
[ "$failed" = 0 ]
