#!/usr/bin/env bash
# Several hosts on one Linux machine, to test what crosses a network. Each has its own network, mount, PID and UTS
# namespace: an address 10.79.0.I, the name hostI, a home, a /tmp, a /dev/shm and an sshd that root enters with a key.
# All see /var/tmp/gscnn-hosts/shared, as they would see an NFS mount. Needs root, iproute2, openssh-server, rsync.
#
#   hosts.sh up N [PID]      N hosts; with PID, `down` as soon as that process has ended, however it did
#   hosts.sh sh I CMD...     runs a command on host I
#   hosts.sh off I | on I    pulls the plug of host I, switches it on again
#   hosts.sh down            ends everything that `up` made and nothing else
#
# Folders below /tmp that the hosts are to see, since theirs is another one, stand in HOSTS_SEE, separated by colons.
set -euo pipefail

folder=/var/tmp/gscnn-hosts
name=gscnn-host   # of the network namespaces and of their cables
bridge=gscnn-hosts
net=10.79.0
self=$(realpath "$0")

usage() { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
fail() { echo "hosts.sh: $*" >&2; exit 1; }
numbers() { ip netns list | sed -n "s/^$name\([0-9]*\).*/\1/p" | sort -n; }

first_process() {   # The host's process 1, by its number on this machine.
  local pid
  for pid in $(ip netns pids "$name$1" 2>/dev/null); do
    if awk '/^NSpid:/ {found = NF > 2 && $NF == 1} END {exit !found}' "/proc/$pid/status" 2>/dev/null; then
      echo "$pid"
      return
    fi
  done
  return 1
}

answers() { timeout 1 bash -c "exec 3<>/dev/tcp/$net.$1/22" 2>/dev/null; }

power_on() {
  ! first_process "$1" >/dev/null || fail "host $1 is on"
  setsid ip netns exec "$name$1" unshare --mount --uts --pid --fork --mount-proc "$self" boot "$1" \
    >/dev/null 2>&1 </dev/null &
  disown
  for _ in $(seq 100); do answers "$1" && return; sleep 0.1; done
  fail "host $1 does not come up: $(cat "$folder/$1/sshd.log" 2>&1)"
}

boot() {   # Process 1 of a host, in namespaces of its own.
  local tmp=$folder/$1/tmp seen=() path
  hostname "host$1"
  mount -t tmpfs tmpfs /dev/shm
  mount -t tmpfs -o mode=755 tmpfs /run
  IFS=: read -ra seen <<<"${HOSTS_SEE:-}"
  for path in "${seen[@]}"; do
    [[ $path == /tmp/* ]] || continue
    mkdir -p "$tmp/${path#/tmp/}"
    mount --bind "$path" "$tmp/${path#/tmp/}"
  done
  mount --rbind "$tmp" /tmp
  mkdir /run/sshd
  cd /
  /usr/sbin/sshd -f "$folder/ssh/config" -E "$folder/$1/sshd.log"
  while :; do sleep 3600; done   # Orphans end here, and bash buries them.
}

make_host() {
  local number=$1 count=$2 etc=/etc/netns/$name$1 i
  mkdir -p "$etc" "$folder/$number/home/.ssh"
  mkdir -m 1777 "$folder/$number/tmp"
  chmod 700 "$folder/$number/home"
  install -m 600 "$folder/ssh/id" "$folder/$number/home/.ssh/id_ed25519"
  { echo "127.0.0.1 localhost"; for i in $(seq "$count"); do echo "$net.$i host$i"; done; } >"$etc/hosts"
  echo "hosts: files" >"$etc/nsswitch.conf"   # Names and addresses of these hosts, both ways, and of no others.
  sed "s|^\(root:[^:]*:0:0:[^:]*\):[^:]*:.*|\1:$folder/$number/home:/bin/bash|" /etc/passwd >"$etc/passwd"
  ip netns add "$name$number"
  ip link add "$name$number" type veth peer name eth0 netns "$name$number"
  ip link set "$name$number" master "$bridge" up
  ip -n "$name$number" addr add "$net.$number/24" dev eth0
  ip -n "$name$number" link set eth0 up
  ip -n "$name$number" link set lo up
  ip -n "$name$number" route add default via "$net.254"   # Ray asks it for the host's own address.
}

up() {
  local count=$1 owner=${2:-} number
  [ "$(id -u)" = 0 ] || fail "needs root"
  [ -z "$(numbers)" ] || fail "there are hosts already; end them by: $0 down"
  [ -z "$(ip route show "$net.0/24")" ] || fail "this machine has a network $net.0/24 of its own"
  trap down EXIT
  trap 'exit 130' INT TERM
  rm -rf "$folder"
  mkdir "$folder" "$folder/ssh" "$folder/shared"
  ssh-keygen -q -t ed25519 -N '' -f "$folder/ssh/id"
  ssh-keygen -q -t ed25519 -N '' -f "$folder/ssh/host"
  printf '%s\n' "HostKey $folder/ssh/host" "AuthorizedKeysFile $folder/ssh/id.pub" "PasswordAuthentication no" \
    "StrictModes no" "UsePAM no" "UseDNS no" "PidFile none" >"$folder/ssh/config"
  ip link add "$bridge" type bridge
  ip addr add "$net.254/24" dev "$bridge"
  ip link set "$bridge" up
  for number in $(seq "$count"); do make_host "$number" "$count"; done
  for number in $(seq "$count"); do power_on "$number"; done
  # `tail` lives in a namespace of the hosts, so that `down` ends it as well; its owner's end calls `down`.
  if [ -n "$owner" ]; then
    setsid bash -c 'nsenter --net="/run/netns/$1" tail --pid="$2" -f /dev/null && exec "$3" down' \
      bash "${name}1" "$owner" "$self" >/dev/null 2>&1 </dev/null &
  fi
  trap - EXIT INT TERM
  echo "$count hosts, $net.1 to $net.$count: ssh -i $folder/ssh/id root@$net.1"
}

down() {
  local number pids
  for number in $(numbers); do
    for _ in $(seq 50); do
      pids=$(ip netns pids "$name$number")
      [ -n "$pids" ] || break
      kill -9 $pids 2>/dev/null || true
      sleep 0.1
    done
    ip netns del "$name$number"
    ip link del "$name$number" 2>/dev/null || true   # Goes with its namespace, but a moment later.
    rm -rf "/etc/netns/$name$number"
  done
  rmdir /etc/netns 2>/dev/null || true
  ip link del "$bridge" 2>/dev/null || true
  rm -rf "$folder"
}

inside() {
  local pid
  pid=$(first_process "$1") || fail "host $1 is off"
  shift
  HOME=$(nsenter -t "$pid" -m getent passwd root | cut -d: -f6) nsenter -t "$pid" -m -u -n -p -- "$@"
}

case "${1:-} $#" in
  "up 2" | "up 3") up "$2" "${3:-}" ;;
  "down 1") down ;;
  "off 2") kill -9 "$(first_process "$2")" ;;
  "on 2") power_on "$2" ;;
  "boot 2") boot "$2" ;;
  sh\ *) [ $# -ge 3 ] || usage; shift; inside "$@" ;;
  *) usage ;;
esac
