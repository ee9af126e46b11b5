# shellcheck shell=bash disable=SC2034 # read by tests/setup/image.sh
# BeagleBone Black: everything it starts with is free and in Debian. Assembled here, never started here.
MACHINE=armv7
KERNEL=linux-image-armmp
UBOOT=(u-boot-omap usr/lib/u-boot/am335x_boneblack/MLO usr/lib/u-boot/am335x_boneblack/u-boot.img)
CONSOLE=ttyO0,115200n8
MODULES=(tps65217 phy-gmii-sel smsc davinci_mdio ti_cpsw sdhci-omap omap_hsmmc squashfs vfat nls_cp437 nls_ascii ext4 crc32c_generic omap_wdt)
# The processor's first loader reads MLO from the boot partition.
FIRMWARE=(MLO u-boot.img)
DEVICE_TREES=(am335x-boneblack.dtb am335x-boneblack-wireless.dtb am335x-bonegreen.dtb)
