# shellcheck shell=bash disable=SC2034 # read by tests/setup/image.sh
# QEMU's machine `virt` with a 32-bit processor. Debian's kernel for it has no driver of the watchdog.
MACHINE=armv7
KERNEL=linux-image-armmp
UBOOT=(u-boot-qemu usr/lib/u-boot/qemu_arm/u-boot.bin)
CONSOLE=ttyAMA0
MODULES=(virtio_pci virtio_mmio virtio_blk virtio_net squashfs vfat nls_cp437 nls_ascii ext4 crc32c_generic)
FIRMWARE=()
DEVICE_TREES=()
