# shellcheck shell=bash
# Static binaries for this machine and for others, without Docker and without installing anything.
#
# The way, the same for all of them: Rust's own library for musl, from the toolchain or from rustup, which
# links its own musl; a C compiler for the machine, the system's or Debian's unpacked below .dev/; and the
# headers of musl, which zstd and ring want, of Debian's musl-dev for that architecture. Where one of them
# cannot be had, the C library of the C compiler (glibc) is linked in instead, and that is said.
# Sourced by ./dev; needs DEV, TOP, say.sh, apt.sh, foreign.sh, needs.sh, edge.sh.

CROSS_MACHINES=(aarch64 armv7)

# cross_names <machine>: sets MUSL and GNU (Rust's targets), TRIPLE (of Debian's compiler), HEADERS (the
# directory of musl's headers) and DEBIAN (the architecture).
cross_names() {
    GNU=$1-unknown-linux-gnu MUSL=$1-unknown-linux-musl TRIPLE=$1-linux-gnu HEADERS=$1-linux-musl
    case $1 in
        x86_64) DEBIAN=amd64 ;;
        aarch64) DEBIAN=arm64 ;;
        armv7)
            GNU=armv7-unknown-linux-gnueabihf MUSL=armv7-unknown-linux-musleabihf
            TRIPLE=arm-linux-gnueabihf HEADERS=arm-linux-musleabihf DEBIAN=armhf ;;
        *) die "there is no build for machines of the kind '$1'" "one of: x86_64 ${CROSS_MACHINES[*]}" 2 ;;
    esac
}

# cross_is_here <machine>: does its code run on this machine as it is?
cross_is_here() { [[ $1 == "$(uname -m)" || ($1 == armv7 && $(uname -m) == armv7l) ]]; }

# cross_cc <machine>: a C compiler for it; nothing where none can be had.
cross_cc() {
    local TRIPLE GNU MUSL HEADERS DEBIAN root
    cross_names "$1"
    if cross_is_here "$1"; then
        echo "${CC:-cc}"
    elif command -v "$TRIPLE-gcc" >/dev/null; then
        echo "$TRIPLE-gcc"
    elif have_apt && (apt_unpack "cross-$1" "(gcc|cpp|binutils|libc6|libgcc|linux-libc|lib(isl|mpfr|mpc|gmp|zstd|jansson))[^=]*|zlib1g" \
        "gcc-${TRIPLE//_/-}" "libc6-dev-$DEBIAN-cross") >&8; then
        root=$DEV/unpacked/cross-$1
        wrapper "$TRIPLE-gcc" "$(library_links "$root")" "$(cross_tool "$root" "$TRIPLE-gcc")" -B"$root/usr/$TRIPLE/bin"
        wrapper "$TRIPLE-ar" "$root/.libraries" "$root/usr/bin/$TRIPLE-ar"
        echo "$DEV/bin/$TRIPLE-gcc"
    fi
}

# cross_tool <root> <name>: Debian's unversioned names are links, and they may be missing.
cross_tool() { find "$1/usr/bin" -name "$2*" | grep -xE ".*/$2(-[0-9]+)?" | sort -V | head -n1; }

# cross_headers <machine>: where musl's headers for it are; nothing where they cannot be had.
cross_headers() {
    local TRIPLE GNU MUSL HEADERS DEBIAN root
    cross_names "$1"
    if [[ -d /usr/include/$HEADERS ]]; then echo "/usr/include/$HEADERS"; return 0; fi
    have_apt || return 0
    # For this machine the lists are there already.
    if cross_is_here "$1"; then
        root=$DEV/unpacked/musl
        (apt_unpack musl 'musl|musl-dev' musl-dev) >&8 || return 0
    else
        root=$DEV/unpacked/musl-$DEBIAN
        (foreign_unpack "musl-$DEBIAN" "$DEBIAN" musl-dev) >&8 || return 0
    fi
    if [[ -d $root/usr/include/$HEADERS ]]; then echo "$root/usr/include/$HEADERS"; fi
}

# cross_library <target>: has the compiler, or rustup, the libraries of this target?
cross_library() {
    local libraries
    libraries=$(rustc --print sysroot)/lib/rustlib/$1/lib
    if compgen -G "$libraries/libstd-*.rlib" >/dev/null; then return 0; fi
    command -v rustup >/dev/null || return 1
    # What rustup did not have is asked for once an hour.
    if [[ -n $(find "$DEV/cross-$1.missing" -mmin -60 2>/dev/null) ]]; then return 1; fi
    say "rustup: fetching the libraries of $1 (40 MB) ..."
    if timeout 300 rustup target add "$1" >"$DEV/cross-$1.log" 2>&1; then return 0; fi
    touch "$DEV/cross-$1.missing"
    return 1
}

# cross_plan <package> <machine>: sets CROSS_TARGET and CROSS_PROFILE, and adds to CROSS_ENV what cargo must
# know to build the package for that machine. Fails when there is no way to.
cross_plan() {
    local package=$1 machine=$2 TRIPLE GNU MUSL HEADERS DEBIAN cc headers upper cflags=""
    cross_names "$machine"
    cc=$(cross_cc "$machine")
    if [[ -z $cc ]]; then
        printf '✗ no C compiler for %s\n  do: install %s-gcc\n' "$machine" "$TRIPLE" >&2
        return 1
    fi
    # Boxes get the small one. A server has room, and its zstd is whole.
    CROSS_PROFILE=${CROSS_PROFILE_OF_SERVERS-release}
    if [[ $package == gateway ]]; then CROSS_PROFILE=edge cflags=$(edge_cflags); fi
    headers=$(cross_headers "$machine")
    if [[ -n $headers ]] && cross_library "$MUSL"; then
        CROSS_TARGET=$MUSL
        cflags="-nostdinc -isystem $headers -isystem $("$cc" -print-file-name=include) $cflags"
    elif cross_library "$GNU"; then
        CROSS_TARGET=$GNU
        skip "$package with musl for $machine: no $MUSL from rustup (.dev/cross-$MUSL.log) or no musl-dev; linked with glibc instead" >&8
    else
        printf '✗ rustc has no library for %s, and rustup fetches neither %s nor %s\n  do: see .dev/cross-*.log; rustup target add %s\n' \
            "$machine" "$MUSL" "$GNU" "$MUSL" >&2
        return 1
    fi
    upper=$(tr a-z- A-Z_ <<<"$CROSS_TARGET")
    CROSS_ENV+=("CC_${CROSS_TARGET//-/_}=$cc" "CFLAGS_${CROSS_TARGET//-/_}=$cflags" "CARGO_TARGET_${upper}_LINKER=$cc"
        "CARGO_TARGET_${upper}_RUSTFLAGS=-C target-feature=+crt-static $(edge_link_flags "$machine")")
    if ! cross_is_here "$machine"; then CROSS_ENV+=("AR_${CROSS_TARGET//-/_}=${cc%gcc}ar"); fi
}

# cross_build_all <package> <machines...>: builds it static and stripped for all of them in one go, which
# keeps all cores busy, and prints a line "machine path" for each.
cross_build_all() {
    local package=$1 machine targets=() lines=() directory=${CARGO_TARGET_DIR:-$TOP/target}/edge
    local CROSS_TARGET CROSS_PROFILE CROSS_ENV=() features=()
    shift
    for machine in "$@"; do
        cross_plan "$package" "$machine" || return 1
        targets+=(--target "$CROSS_TARGET")
        # What cargo calls dev it puts into debug.
        lines+=("$machine $directory/$CROSS_TARGET/${CROSS_PROFILE/#dev/debug}/$package")
    done
    # The HTTP door fits into the file for ARM and not into the one for x86 (docs/decisions/0031).
    local wanted=ingest
    if [[ " $* " == *" x86_64 "* ]]; then wanted=""; fi
    if [[ $package == gateway ]]; then features=(--no-default-features --features "${MILEPOST_EDGE_FEATURES-$wanted}"); fi
    say "building $package for $* (static) ..."
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS "${CROSS_ENV[@]}" \
        cargo build --quiet --profile "$CROSS_PROFILE" -p "$package" --bins "${features[@]}" "${targets[@]}" --target-dir "$directory" >&8 || return 1
    printf '%s\n' "${lines[@]}"
}

# cross_build <machine> [package]: the same for one machine; prints the path alone.
cross_build() {
    local made
    made=$(cross_build_all "${2:-gateway}" "$1") || return 1
    echo "${made#* }"
}

# cross_emulator <machine>: what runs its programs here; nothing where it cannot be had.
cross_emulator() {
    local name=qemu-$1-static
    if [[ $1 == armv7 ]]; then name=qemu-arm-static; fi
    if command -v "$name" >/dev/null; then
        command -v "$name"
    elif have_apt && (apt_unpack qemu-user qemu-user-static qemu-user-static) >&8; then
        echo "$DEV/unpacked/qemu-user/usr/bin/$name"
    fi
}

# cross_selftest <machine> <file>: the file proves itself, on this machine or under qemu-user.
cross_selftest() {
    local emulator=()
    if ! cross_is_here "$1"; then
        emulator=("$(cross_emulator "$1")")
        if [[ -z ${emulator[0]} ]]; then
            skip "the selftest of the gateway for $1: no qemu-user-static"
            return 0
        fi
    fi
    # An emulator that hangs must not hang the tests.
    timeout 120 "${emulator[@]}" "$2" selftest >"$DEV/cross-selftest.log" 2>&1 || { cat "$DEV/cross-selftest.log"; return 1; }
}

# cross [machines...]: the static gateway for each; its size, its selftest, and a drive over the whole road.
cross() {
    local machine binary bytes made machines=("$@")
    if ((${#machines[@]} == 0)); then machines=("${CROSS_MACHINES[@]}"); fi
    made=$(cross_build_all gateway "${machines[@]}") || return 1
    while read -r machine binary; do
        bytes=$(stat -c %s "$binary")
        printf 'RATIO cross %s_bytes %d <= %d\n' "$machine" "$bytes" "$EDGE_BYTES_MAX"
        printf '  %s\n' "${binary#"$TOP/"}"
        cross_selftest "$machine" "$binary" || return 1
        if ((bytes > EDGE_BYTES_MAX)); then
            printf '✗ the gateway for %s is larger than %d bytes\n' "$machine" "$EDGE_BYTES_MAX"
            return 1
        fi
    done <<<"$made"
    cross_drive "$made"
}

# cross_drive <lines "machine path">: trackers drive through each of these gateways, on a road of which all
# else is of this machine.
cross_drive() {
    local machine binary emulator pass=()
    while read -r machine binary; do
        emulator=""
        if ! cross_is_here "$machine"; then
            emulator=$(cross_emulator "$machine")
            if [[ -z $emulator ]]; then continue; fi # said by the selftest
        fi
        pass+=("MILEPOST_CROSS_${machine^^}=$binary" "MILEPOST_EMULATOR_${machine^^}=$emulator")
    done <<<"$1"
    cargo build --quiet --workspace --bins >&8 || return 1
    env "${pass[@]}" timeout 600 cargo test --quiet --workspace --test cross -- emulated docker >"$DEV/cross.log" 2>&1 || { cat "$DEV/cross.log"; return 1; }
    grep -E '^test result|ACKed' "$DEV/cross.log" | sed 's/^/  /'
}
