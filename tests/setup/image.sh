# shellcheck shell=bash
# Disk images for boards, and the updates that go with them, without root: no mounts, no loop devices.
#
# Kernel, boot loader and the few programs around the gateway are Debian's, unpacked below .dev/ and never
# installed. What is ours lies in hardware/image: the start, the root file system, a file for each board.
# Sourced by ./dev; needs DEV, TOP, say.sh, apt.sh, foreign.sh, cross.sh.

IMAGE_SOURCE=$TOP/hardware/image

# MiB. A slot holds about 4; the rest is for what comes.
IMAGE_BOOT_START=4 IMAGE_BOOT=96 IMAGE_RECORD=1 IMAGE_SLOT=32
IMAGE_DATA_MIN=32

image_boards() { find "$IMAGE_SOURCE/boards" -name '*.sh' -printf '%f\n' | sed 's/\.sh$//' | sort; }

# image_tools: what images are made of and run by; sets IMAGE_TOOLS, the place of the programs.
image_tools() {
    have_apt || die "image: there is no apt-get here, and an image is made of Debian's packages" "use a Debian machine"
    apt_unpack image-tools 'qemu-system-(arm|common|data)|squashfs-tools|mtools|fdisk|cpio|kmod|e2fsprogs|openssl|lib[^=]*' \
        qemu-system-arm squashfs-tools mtools fdisk cpio kmod e2fsprogs openssl
    local root=$DEV/unpacked/image-tools libraries name path
    libraries=$(library_links "$root")
    IMAGE_TOOLS=$DEV/image-bin
    mkdir -p "$IMAGE_TOOLS"
    for name in mksquashfs mformat mcopy mmd sfdisk cpio kmod mke2fs openssl qemu-system-aarch64 qemu-system-arm; do
        path=$(find "$root" -path "*bin/$name" ! -type d | head -n1)
        if [[ -z $path ]]; then die "image: the packages brought no $name" "rm -r $root, then run again"; fi
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$libraries" "$path" >"$IMAGE_TOOLS/$name"
    done
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec -a depmod %q "$@"\n' "$libraries" "$root/bin/kmod" | sed '1s/sh/bash/' >"$IMAGE_TOOLS/depmod"
    # Where they look for their own files is compiled in.
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q -L %q "$@"\n' "$libraries" "$root/usr/bin/qemu-system-aarch64" "$root/usr/share/qemu" >"$IMAGE_TOOLS/qemu-system-aarch64"
    sed 's/system-aarch64/system-arm/' "$IMAGE_TOOLS/qemu-system-aarch64" >"$IMAGE_TOOLS/qemu-system-arm"
    chmod +x "$IMAGE_TOOLS"/*
}

# image_parts: Debian's part of the board in $MACHINE, $KERNEL and $UBOOT; sets PARTS, KERNEL_VERSION and
# UBOOT_FILES.
image_parts() {
    local TRIPLE GNU MUSL HEADERS DEBIAN package file
    cross_names "$MACHINE"
    mkdir -p "$DEV/apt-foreign"
    (exec 7>"$DEV/apt-foreign/lock"; flock 7; foreign_lists) || return 1
    package=$(apt-cache -c "$(foreign_config)" depends "$KERNEL:$DEBIAN" | sed -nE 's/^ *Depends: (linux-image-[^:]*).*/\1/p' | head -n1)
    if [[ -z $package ]]; then die "image: apt knows no $KERNEL for $DEBIAN" "apt-cache -c $(foreign_config) policy $KERNEL:$DEBIAN"; fi
    KERNEL_VERSION=${package#linux-image-}
    PARTS=$DEV/unpacked/image-$DEBIAN
    foreign_unpack "image-$DEBIAN" "$DEBIAN" "$package" busybox-static e2fsck-static || return 1
    # The loaders of QEMU's machines come in a package for every architecture.
    local from=$DEBIAN
    if [[ ${UBOOT[0]} == u-boot-qemu ]]; then from=amd64; fi
    foreign_unpack "image-${UBOOT[0]}" "$from" "${UBOOT[0]}" || return 1
    UBOOT_FILES=()
    for file in "${UBOOT[@]:1}"; do UBOOT_FILES+=("$DEV/unpacked/image-${UBOOT[0]}/$file"); done
}

# image_modules <directory>: copies the drivers of $MODULES and those they need, and writes their order.
image_modules() {
    local to=$1 base=$PARTS/lib/modules/$KERNEL_VERSION deps=$WORK/modules/lib/modules/$KERNEL_VERSION entry name line module
    # Which driver needs which: written beside the drivers, so beside links to them.
    rm -rf "$WORK/modules"
    mkdir -p "$to/lib/modules" "$to/etc" "${deps%/*}"
    cp -al "$base" "$deps"
    "$IMAGE_TOOLS/depmod" -b "$WORK/modules" "$KERNEL_VERSION" || return 1
    for entry in "${MODULES[@]}"; do
        name=${entry%% *}
        # A file name may have either sign.
        line=$(grep -E "/${name//[-_]/[-_]}\.ko:" "$deps/modules.dep") || {
            # Or it is in the kernel.
            if grep -qE "/${name//[-_]/[-_]}\.ko" "$base/modules.builtin"; then continue; fi
            die "image: the kernel $KERNEL_VERSION has no driver $name" "look into $base and the board's file"
        }
        # The file itself first, then what it needs, the deepest last.
        for module in $(tr ' ' '\n' <<<"${line/:/ }" | grep . | tac); do
            if [[ -e $to/lib/modules/${module##*/} ]]; then continue; fi
            cp "$base/$module" "$to/lib/modules/"
            if [[ $module == "${line%%:*}" && $entry == *' '* ]]; then
                echo "${module##*/} ${entry#* }"
            else
                echo "${module##*/}"
            fi
        done
    done >"$to/etc/modules"
}

# image_initrd <gateway> <to>: the first file system, with the start, the drivers and the gateway.
image_initrd() {
    local tree=$WORK/initrd
    rm -rf "$tree"
    mkdir -p "$tree/bin"
    cp "$PARTS/bin/busybox" "$tree/bin/"
    cp "$1" "$tree/bin/gateway"
    install -m 755 "$IMAGE_SOURCE/start" "$tree/init"
    image_modules "$tree" || return 1
    (cd "$tree" && find . | LC_ALL=C sort | "$IMAGE_TOOLS/cpio" --quiet -o -H newc -R 0:0 | gzip -9n) >"$2"
}

# image_tree <gateway> <directory>: the root file system of version $VERSION.
image_tree() {
    local tree=$2
    rm -rf "$tree"
    cp -R "$IMAGE_SOURCE/root" "$tree"
    mkdir -p "$tree"/{bin,boot,data,dev,mnt,proc,run,sbin,sys,tmp,usr/bin,usr/share/milepost,var/lib}
    install -m 755 "$PARTS/bin/busybox" "$tree/bin/busybox"
    install -m 755 "$PARTS/sbin/e2fsck.static" "$tree/sbin/e2fsck"
    install -m 755 "$1" "$tree/usr/bin/gateway"
    ln -s busybox "$tree/bin/sh"
    ln -s ../bin/busybox "$tree/sbin/init"
    ln -s /data/etc "$tree/etc/milepost"
    ln -s /data/lib "$tree/var/lib/milepost"
    ln -s /run/resolv.conf "$tree/etc/resolv.conf"
    ln -s /proc/mounts "$tree/etc/mtab"
    cp "$KEY_PUBLIC" "$tree/usr/share/milepost/update.pub"
    image_version "$tree" "$VERSION"
}

# image_version <tree> <version>: says which system it is.
image_version() { printf 'board %s\nversion %s\ntrial_seconds %d\n' "$BOARD" "$2" "$TRIAL" >"$1/usr/share/milepost/image"; }

# image_squash <tree> <to>
image_squash() {
    rm -f "$2"
    "$IMAGE_TOOLS/mksquashfs" "$1" "$2" -all-root -no-progress -quiet -comp zstd || return 1
    if (($(stat -c %s "$2") > IMAGE_SLOT << 20)); then die "image: the system has more than $IMAGE_SLOT MiB" "make it smaller"; fi
}

# image_update <root file system> <version> <key> <to>: what `gateway update apply` takes.
image_update() {
    {
        printf 'milepost-update 1\nboard %s\nversion %s\nbytes %d\nsha256 %s\n' \
            "$BOARD" "$2" "$(stat -c %s "$1")" "$(sha256sum "$1" | cut -d' ' -f1)"
    } >"$WORK/said"
    "$IMAGE_TOOLS/openssl" pkeyutl -sign -rawin -inkey "$3" -in "$WORK/said" -out "$WORK/signature" || return 1
    {
        cat "$WORK/said"
        printf 'signature %s\n\n' "$(od -An -v -tx1 "$WORK/signature" | tr -d ' \n')"
        cat "$1"
    } >"$4"
}

# image_key <file>: makes it where there is none.
image_key() {
    if [[ -f $1 ]]; then return 0; fi
    mkdir -p "${1%/*}"
    (umask 077 && "$IMAGE_TOOLS/openssl" genpkey -algorithm ed25519 -out "$1") || return 1
    say "image: made a key for updates, $1; keep it, or boxes take no update from you"
}

# image_fat <MiB> <to> [hidden sectors]: an empty FAT file system.
image_fat() {
    rm -f "$2"
    truncate -s "$1M" "$2"
    "$IMAGE_TOOLS/mformat" -i "$2" -T "$(($1 * 2048))" -h 64 -s 32 -H "${3-0}" -v MILEPOST ::
}

# image_boot <gateway> <signature> <to>: the boot partition.
image_boot() {
    local fat=$3 file
    image_fat "$IMAGE_BOOT" "$fat" "$((IMAGE_BOOT_START * 2048))" || return 1
    # First, and in one piece: some first loaders cannot follow more.
    for file in "${UBOOT_FILES[@]}"; do
        if [[ " ${FIRMWARE[*]} " == *" ${file##*/} "* ]]; then
            "$IMAGE_TOOLS/mcopy" -i "$fat" "$file" "::${file##*/}" || return 1
        fi
    done
    image_initrd "$1" "$WORK/initrd.img" || return 1
    {
        printf 'TIMEOUT 1\nDEFAULT milepost\nLABEL milepost\n  LINUX /vmlinuz\n  INITRD /initrd.img\n'
        if ((${#DEVICE_TREES[@]})); then printf '  FDTDIR /\n'; fi
        printf '  APPEND console=%s milepost.disk=%s panic=10 loglevel=4\n' "$CONSOLE" "$2"
    } >"$WORK/extlinux.conf"
    "$IMAGE_TOOLS/mcopy" -i "$fat" "$PARTS/boot/vmlinuz-$KERNEL_VERSION" ::vmlinuz &&
        "$IMAGE_TOOLS/mcopy" -i "$fat" "$WORK/initrd.img" ::initrd.img &&
        "$IMAGE_TOOLS/mmd" -i "$fat" ::extlinux &&
        "$IMAGE_TOOLS/mcopy" -i "$fat" "$WORK/extlinux.conf" ::extlinux/extlinux.conf || return 1
    for file in "${DEVICE_TREES[@]}"; do
        "$IMAGE_TOOLS/mcopy" -i "$fat" "$PARTS/usr/lib/linux-image-$KERNEL_VERSION/$file" "::$file" || return 1
    done
}

# image_disk <boot> <root> <signature> <to>: the whole disk. MBR, because that is what every first loader
# reads; the data partition comes last, so that a larger card can be used up by making it larger.
image_disk() {
    local boot=$1 root=$2 disk=$4 record a b data data_size
    record=$((IMAGE_BOOT_START + IMAGE_BOOT))
    # A logical partition has its entry in the MiB before it.
    a=$((record + IMAGE_RECORD + 1))
    b=$((a + IMAGE_SLOT + 1))
    data=$((b + IMAGE_SLOT))
    data_size=$((SIZE - data))
    if ((data_size < IMAGE_DATA_MIN)); then die "image: $SIZE MiB are too few" "--size $((data + IMAGE_DATA_MIN)) or more" 2; fi
    rm -f "$disk"
    truncate -s "${SIZE}M" "$disk"
    "$IMAGE_TOOLS/sfdisk" --quiet "$disk" <<TABLE || return 1
label: dos
label-id: 0x$3
x1 : start=$((IMAGE_BOOT_START * 2048)), size=$((IMAGE_BOOT * 2048)), type=c, bootable
x2 : start=$((record * 2048)), size=$((IMAGE_RECORD * 2048)), type=da
x3 : start=$((data * 2048)), size=$((data_size * 2048)), type=83
x4 : start=$(((a - 1) * 2048)), size=$((2 * (IMAGE_SLOT + 1) * 2048)), type=f
x5 : start=$((a * 2048)), size=$((IMAGE_SLOT * 2048)), type=83
x6 : start=$((b * 2048)), size=$((IMAGE_SLOT * 2048)), type=83
TABLE
    rm -f "$WORK/data.img"
    truncate -s "${data_size}M" "$WORK/data.img"
    # One in a hundred blocks kept back would be for root alone, who writes nothing here.
    "$IMAGE_TOOLS/mke2fs" -q -t ext4 -m 0 -L milepost-data -E root_owner=0:0 "$WORK/data.img" || return 1
    dd if="$boot" of="$disk" bs=1M seek="$IMAGE_BOOT_START" conv=notrunc,sparse status=none &&
        dd if="$root" of="$disk" bs=1M seek="$a" conv=notrunc status=none &&
        dd if="$WORK/data.img" of="$disk" bs=1M seek="$data" conv=notrunc,sparse status=none
}

# image_signature: four bytes that say which disk it is, as the partition table has them and as the bytes
# lie on the disk.
image_signature() {
    local bytes
    bytes=$(cat "$WORK/root.squashfs" "$KEY_PUBLIC" | sha256sum | cut -c1-8)
    TABLE_SIGNATURE=$bytes
    DISK_SIGNATURE=${bytes:6:2}${bytes:4:2}${bytes:2:2}${bytes:0:2}
}

# image_board <name>: reads its file and gets what it needs.
image_board() {
    BOARD=$1
    # shellcheck disable=SC1090
    . "$IMAGE_SOURCE/boards/$1.sh"
    WORK=$DEV/image/$1
    mkdir -p "$WORK" "$IMAGE_OUT"
    image_tools
    image_parts || return 1
    image_key "$KEY" || return 1
    KEY_PUBLIC=$WORK/update.pub
    "$IMAGE_TOOLS/openssl" pkey -in "$KEY" -pubout -out "$KEY_PUBLIC" || return 1
}

# image_build <name>: the image and the update with the same system; prints both.
image_build() {
    local binary image=$IMAGE_OUT/milepost-$1.img update=$IMAGE_OUT/milepost-$1.update
    image_board "$1" || return 1
    binary=${GATEWAY:-$(cross_build "$MACHINE")} || return 1
    say "image: assembling $1, version $VERSION ..."
    image_tree "$binary" "$WORK/root" || return 1
    image_squash "$WORK/root" "$WORK/root.squashfs" || return 1
    image_signature
    image_boot "$binary" "$DISK_SIGNATURE" "$WORK/boot.img" || return 1
    image_disk "$WORK/boot.img" "$WORK/root.squashfs" "$TABLE_SIGNATURE" "$image" || return 1
    image_update "$WORK/root.squashfs" "$VERSION" "$KEY" "$update" || return 1
    printf '  %s: %d MiB, of which %d are used\n' "${image#"$TOP/"}" "$(($(stat -c %s "$image") >> 20))" \
        "$(($(stat -c %b "$image") >> 11))"
    printf '  %s: %d bytes\n' "${update#"$TOP/"}" "$(stat -c %s "$update")"
}

# --- what the tests need beside an image --------------------------------------------------------

# image_stick: a stick with a good update, a damaged one, an unsigned one, one by another key and
# one whose gateway can never reach Redis.
image_stick() {
    local stick=$IMAGE_OUT/stick.img dir=$WORK/stick head
    rm -rf "$dir"
    mkdir -p "$dir"
    image_version "$WORK/root" next
    image_squash "$WORK/root" "$WORK/next.squashfs" || return 1
    image_update "$WORK/next.squashfs" next "$KEY" "$dir/good.update" || return 1
    # TEST-NET-1 of RFC 5737: nobody answers there.
    image_version "$WORK/root" sick
    sed -i '/^umask/i export GATEWAY__UPLINK__URL=rediss://192.0.2.1:6380' "$WORK/root/etc/init.d/gateway"
    image_squash "$WORK/root" "$WORK/sick.squashfs" || return 1
    image_update "$WORK/sick.squashfs" sick "$KEY" "$dir/sick.update" || return 1
    cp "$dir/good.update" "$dir/damaged.update"
    printf 'damage' | dd of="$dir/damaged.update" bs=1 seek=2000000 conv=notrunc status=none
    head=$(grep -a -n -m1 '^signature ' "$dir/good.update" | cut -d: -f1)
    { head -n "$((head - 1))" "$dir/good.update"; echo; cat "$WORK/next.squashfs"; } >"$dir/unsigned.update"
    "$IMAGE_TOOLS/openssl" genpkey -algorithm ed25519 -out "$WORK/other.key" || return 1
    image_update "$WORK/next.squashfs" next "$WORK/other.key" "$dir/other-key.update" || return 1
    image_fat 48 "$stick" || return 1
    "$IMAGE_TOOLS/mcopy" -i "$stick" "$dir"/*.update ::
}

# image_open <image>: a shell on the console is for whoever can write the boot partition; here that is us.
image_open() {
    : >"$WORK/console"
    "$IMAGE_TOOLS/mcopy" -o -i "$1@@$((IMAGE_BOOT_START << 20))" "$WORK/console" ::console
}

# image_test: starts them in QEMU and has the tests judge. Without these variables they say SKIPPED.
image_test() {
    cargo build -q -p gateway -p cloud >&8 || return 1
    MILEPOST_IMAGE_DIR=$IMAGE_OUT MILEPOST_IMAGE_TOOLS=$IMAGE_TOOLS \
        MILEPOST_IMAGE_LOADERS=$DEV/unpacked/image-u-boot-qemu/usr/lib/u-boot \
        cargo test -q -p tests --test image -- --nocapture --test-threads=1
}

# --- the command --------------------------------------------------------------------------------

usage_image() {
    cat <<TEXT
usage: ./dev image BOARD [--test] [--version V] [--key FILE] [--size MIB] [--trial SECONDS] [--gateway FILE] [--yes]

Makes a disk image to flash, and an update for boxes that were flashed before, without root: boot loader,
Debian's kernel, two read-only slots for systems, a partition for data. Prints where they are.
docs/image.md: how to flash, provision, update, sign and go back.

  --test      start the images of QEMU's boards and prove them: power cuts, a frozen gateway, updates that
              are good, damaged, unsigned and sick (about ten minutes; only with board qemu-virt)
  --version   of the system (the version of the gateway); letters, digits and .+~_-
  --key       private key that signs updates, Ed25519 in PEM (.dev/image/update.key, made when missing);
              the image takes updates that are signed by it and by no other
  --size      of the image, in MiB ($IMAGE_SIZE); what the rest leaves is for data
  --trial     how long a new system may take until it is healthy ($IMAGE_TRIAL)
  --gateway   this static file instead of one that is built now
  --yes       do not ask before downloading (kernel, boot loader, busybox, QEMU)

boards: $(image_boards | paste -sd' ' -)
TEXT
}

IMAGE_SIZE=384 IMAGE_TRIAL=600

image_defaults() {
    IMAGE_OUT=${CARGO_TARGET_DIR:-$TOP/target}/image KEY=$DEV/image/update.key GATEWAY=""
    SIZE=$IMAGE_SIZE TRIAL=$IMAGE_TRIAL VERSION=$(sed -nE 's/^version = "([^"]+)"/\1/p' "$TOP/Cargo.toml" | head -n1)
}

command_image() {
    local board="" test=0
    image_defaults
    while (($#)); do
        case $1 in
            --test) test=1 ;;
            --version) VERSION=${2-}; shift ;;
            --key) KEY=$(realpath -m "${2-}"); shift ;;
            --size) SIZE=${2-}; shift ;;
            --trial) TRIAL=${2-}; shift ;;
            --gateway) GATEWAY=$(realpath -m "${2-}"); shift ;;
            --yes) YES=1 ;;
            --help | -h) usage_image; exit 0 ;;
            -*) wrong_use image "$1" ;;
            *) if [[ -n $board ]]; then wrong_use image "$1"; fi; board=$1 ;;
        esac
        # A value that is missing is found below.
        if (($#)); then shift; fi
    done
    if ! image_boards | grep -qx -- "$board"; then die "image: there is no board '$board'" "boards: $(image_boards | paste -sd' ' -)" 2; fi
    if [[ ! $VERSION =~ ^[A-Za-z0-9.+~_-]{1,64}$ ]]; then die "--version: '$VERSION' is none" "./dev image --help" 2; fi
    if [[ ! $SIZE =~ ^[1-9][0-9]*$ ]]; then die "--size: '$SIZE' is no number of MiB" "./dev image --help" 2; fi
    if [[ ! $TRIAL =~ ^[1-9][0-9]*$ ]]; then die "--trial: '$TRIAL' is no number of seconds" "./dev image --help" 2; fi
    if [[ -n $GATEWAY && ! -f $GATEWAY ]]; then die "--gateway: there is no file $GATEWAY" "./dev image --help" 2; fi
    if ((test)) && [[ $board != qemu-virt ]]; then die "--test: only qemu-virt can be started here" "./dev image qemu-virt --test" 2; fi
    export MILEPOST_SKIPS=$DEV/skips
    mkdir -p "$DEV"
    : >"$MILEPOST_SKIPS"
    setup
    if ((test)); then
        part "image, proved" image_proved
    else
        part "image of $board" image_build "$board"
    fi
    closing_table
}

# image_all: the same without any option.
image_all() {
    image_defaults
    image_proved
}

# image_proved: both images that can be started here, with a short trial, and the tests.
image_proved() {
    local TRIAL=45 IMAGE_OUT=$DEV/image/test KEY=$DEV/image/test.key
    mkdir -p "$IMAGE_OUT"
    # A file that was given is for the board that was named.
    GATEWAY="" image_build qemu-virt-armv7 || return 1
    image_open "$IMAGE_OUT/milepost-qemu-virt-armv7.img" || return 1
    image_build qemu-virt || return 1
    image_open "$IMAGE_OUT/milepost-qemu-virt.img" || return 1
    image_stick || return 1
    image_test
}
