#!/bin/bash
# Mounts the instance's NVMe at /mnt/llm, several as one stripe; without any, /mnt/llm is a folder of the root volume.
# Idempotent: a device that carries a file system is mounted, never formatted again.
set -euo pipefail

target=/mnt/llm
mkdir -p "$target"

if ! mountpoint --quiet "$target"; then
  shopt -s nullglob
  devices=()
  for link in /dev/disk/by-id/nvme-Amazon_EC2_NVMe_Instance_Storage_*; do
    case "$link" in *-part[0-9]*) continue ;; esac
    device=$(readlink --canonicalize "$link")
    findmnt --source "$device" >/dev/null || devices+=("$device")
  done
  mapfile -t devices < <(printf '%s\n' "${devices[@]}" | sort --unique | sed '/^$/d')

  if ((${#devices[@]} > 0)); then
    device=${devices[0]}
    if ((${#devices[@]} > 1)); then
      device=/dev/md0
      [[ -b $device ]] || mdadm --assemble "$device" "${devices[@]}" 2>/dev/null ||
        mdadm --create "$device" --level=0 --run --raid-devices="${#devices[@]}" "${devices[@]}"
    fi
    [[ -n $(blkid --output value --match-tag TYPE "$device") ]] || mkfs.xfs -q "$device"
    mount "$device" "$target"
    echo "mounted $device (${#devices[@]} devices) at $target"
  fi
fi

mkdir -p "$target/models" "$target/artifacts" "$target/cache" /run/llm-fleet
