#!/bin/sh
# SPDX-License-Identifier: MIT
# build-image.sh ROOT NAME: a disk image from a folder, in the way of those who build images by script. It only knows
# the names of the usual programs; whose they are is the matter of PATH.
set -eu
root=$1 name=$2
qemu-img create -q -f raw "$name.raw" 96M
mke2fs -q -t ext4 -d "$root" -L root "$name.raw"
qemu-img convert -p -f raw -O qcow2 -c -o compression_type=zlib "$name.raw" "$name-base.qcow2" >/dev/null
qemu-img check -q "$name-base.qcow2"
size=$(qemu-img info "$name-base.qcow2" | sed -n 's/^virtual size:.*(\([0-9]*\) bytes)$/\1/p')
[ "$size" -eq 100663296 ]
qemu-img resize -q "$name-base.qcow2" 128M
qemu-img create -q -f qcow2 -b "$name-base.qcow2" -F qcow2 "$name.qcow2"
qemu-img measure -O qcow2 "$name.qcow2" >/dev/null
qemu-img snapshot -c built "$name.qcow2"
qemu-io -f qcow2 -c 'read -q 0 1M' "$name.qcow2"
