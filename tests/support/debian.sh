#!/usr/bin/env bash
# `make test` as a newcomer meets it: Debian 13 with its own Python 3.13, make, and nothing else; no Java, no Chromium.
# The system lies in .python/debian and is made once; the tree is copied in anew each time. Arguments are make's ARGS.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
  echo "not run: tests on Debian 13; they need root and debootstrap (apt-get install debootstrap)"
  exit 0
fi
root="$PWD/.python/debian"
if [ ! -e "$root/made" ]; then
  echo "making Debian 13 in .python/debian (450 MB, once)"
  mkdir -p .python
  rm -rf "$root"
  debootstrap --variant=minbase --include=python3,python3-venv,make,ca-certificates trixie "$root" >.python/debian.log \
    || { tail -n 5 .python/debian.log; exit 1; }
  touch "$root/made"
fi
# This machine's way to the package index: names, certificates, pip's settings.
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt /etc/pip.conf; do
  if [ -e "$file" ]; then cp -L "$file" "$root$file"; fi
done
mapfile -t passed < <(env | grep -E '^(PIP_CERT|PIP_INDEX_URL|PIP_EXTRA_INDEX_URL|PIP_DEFAULT_TIMEOUT|SSL_CERT_FILE|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY)' || true)
mkdir -p "$root/flattr"
find "$root/flattr" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
git ls-files -z | tar --null --files-from - --create | tar --extract --directory "$root/flattr"
# Mounts and processes of its own: nothing is left of either when it ends, however it ends.
exec unshare --mount --pid --fork --kill-child bash -euc '
  root=$1 args=$2; shift 2
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  exec chroot "$root" /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LANG=C.UTF-8 "$@" \
    make -C /flattr test ARGS="$args"
' debian "$root" "$*" "${passed[@]}"
