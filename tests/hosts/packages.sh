#!/usr/bin/env bash
# Debian's packages that tests/hosts needs: installs those that are missing where that is safe, else says which.
set -euo pipefail

missing=()
for package in iproute2 openssh-server postgresql rsync; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
install="apt-get install --yes --no-install-recommends ${missing[*]}"
# Where systemd runs, Debian would start an sshd and a PostgreSQL that nobody asked for.
if [ "$(id -u)" = 0 ] && [ ! -d /run/systemd/system ] && command -v apt-get >/dev/null; then
  echo "installing what is missing: $install"
  apt-get update --quiet=2
  $install
else
  echo "missing, and left to you: $install"
fi
