# shellcheck shell=bash
# The gateway as it goes onto a box, built for this machine: one static, stripped file.
#
# With musl, because the C library is a seventh of a static binary otherwise. Rust's own musl target links it;
# only zstd and ring need its headers, of Debian's musl-dev, unpacked below .dev/. Where either cannot be
# had, the system's C library is linked in instead, and that is said.
# Sourced by ./dev; needs DEV, TOP, say.sh, apt.sh.

# What we write is levels 3 and 15 (contract, Effort): the doubly fast way and the optimal one. The rest of
# zstd's larger half is for other levels; frames of any level can be read.
edge_cflags() {
    local level flags=""
    for level in GREEDY LAZY LAZY2 BTLAZY2 BTULTRA; do flags+=" -DZSTD_EXCLUDE_${level}_BLOCK_COMPRESSOR=1"; done
    echo "${flags# } -DHUF_FORCE_DECOMPRESS_X1=1 -DZSTD_FORCE_DECOMPRESS_SEQUENCES_SHORT=1"
}

# edge_headers: where musl's headers are; nothing where they cannot be had.
edge_headers() {
    local triple root=""
    triple=$(uname -m)-linux-musl
    if [[ ! -d /usr/include/$triple ]]; then
        have_apt || return 0
        root=$DEV/unpacked/musl
        (apt_unpack musl 'musl|musl-dev' musl-dev) || return 0
    fi
    if [[ -d $root/usr/include/$triple ]]; then echo "$root/usr/include/$triple"; fi
}

# edge_library <target>: has the compiler, or rustup, the libraries of this target?
edge_library() {
    local libraries
    libraries=$(rustc --print sysroot)/lib/rustlib/$1/lib
    if compgen -G "$libraries/libstd-*.rlib" >/dev/null; then return 0; fi
    command -v rustup >/dev/null || return 1
    say "rustup: fetching the libraries of $1 (40 MB) ..."
    timeout 300 rustup target add "$1" >"$DEV/edge.log" 2>&1
}

# edge_build: builds it and prints its path.
edge_build() {
    local machine target headers flags directory=${CARGO_TARGET_DIR:-$TOP/target}/edge
    machine=$(uname -m)
    target=$machine-unknown-linux-musl
    # Without these a static binary that may be loaded anywhere is 0.7 MB larger.
    flags="-C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--no-eh-frame-hdr -C link-arg=-Wl,-T,$TOP/tests/setup/edge.ld"
    headers=$(edge_headers)
    if [[ -n $headers ]] && edge_library "$target"; then
        export "CC_${target//-/_}=${CC:-cc}"
        export "CFLAGS_${target//-/_}=-nostdinc -isystem $headers -isystem $(${CC:-cc} -print-file-name=include) $(edge_cflags)"
    else
        skip "gateway with musl: no $target (.dev/edge.log) or no musl-dev; linked with the system's C library instead"
        target=$machine-unknown-linux-gnu
        flags="-C target-feature=+crt-static $flags"
        export "CFLAGS_${target//-/_}=$(edge_cflags)"
    fi
    say "building the gateway for boxes ($target) ..."
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS "CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_RUSTFLAGS=$flags" \
        cargo build --quiet --profile edge -p gateway --target "$target" --target-dir "$directory" >&8 || return 1
    echo "$directory/$target/edge/gateway"
}

# What a box gets is at most this large.
EDGE_BYTES_MAX=$((5 * 1024 * 1024))

# edge: builds it, has it prove itself, and says how large it is.
edge() {
    local binary bytes
    binary=$(edge_build) || return 1
    bytes=$(stat -c %s "$binary")
    "$binary" selftest >"$DEV/edge.log" 2>&1 || { cat "$DEV/edge.log"; return 1; }
    printf '  %s: %d bytes, selftest passed\n' "${binary#"$TOP/"}" "$bytes"
    if [[ $binary == *-musl/* ]] && ((bytes > EDGE_BYTES_MAX)); then
        printf '✗ the gateway for boxes is larger than %d bytes\n' "$EDGE_BYTES_MAX"
        return 1
    fi
}
