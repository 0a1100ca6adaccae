#!/usr/bin/env bash
# Unpacks QEMU 10 from Debian's bookworm-backports into a folder, beside the QEMU that is installed, and prints the path of
# its qemu-system-x86_64. Nothing is installed and no setting of apt is touched; the libraries are those of the installed
# package qemu-system-x86.
#
#   bash test/guest/qemu10.sh FOLDER
set -euo pipefail
folder=$(realpath -m "${1:?usage: qemu10.sh FOLDER}")
program=$folder/usr/bin/qemu-system-x86_64
packages=(qemu-system-x86 qemu-system-common qemu-system-data seabios)

if [ ! -x "$program" ]; then
  mkdir -p "$folder"
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"
  echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main' \
    > "$scratch/sources.list"
  own=(-q -o Dir::Etc::SourceList="$scratch/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache" -o APT::Sandbox::User=root)
  apt-get "${own[@]}" update >&2
  (cd "$scratch" && apt-get "${own[@]}" download "${packages[@]/%//bookworm-backports}" >&2)
  for package in "$scratch"/*.deb; do dpkg-deb -x "$package" "$folder"; done
fi
"$program" --version >&2
echo "$program"
