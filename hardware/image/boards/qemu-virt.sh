# shellcheck shell=bash disable=SC2034 # read by tests/setup/image.sh
# QEMU's machine `virt` with a 64-bit processor: where images are tested.
MACHINE=aarch64
KERNEL=linux-image-arm64
UBOOT=(u-boot-qemu usr/lib/u-boot/qemu_arm64/u-boot.bin)
CONSOLE=ttyAMA0
MODULES=(virtio_pci virtio_mmio virtio_blk virtio_net squashfs vfat nls_cp437 nls_ascii ext4 crc32c_generic "i6300esb heartbeat=20")
FIRMWARE=()
DEVICE_TREES=()
