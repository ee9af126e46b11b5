# shellcheck shell=bash
# What makes the gateway fit onto a box: one static, stripped file. The flags for it, and the proof on this
# machine. How it is built, for this machine or another, is in cross.sh.
#
# With musl, because the C library is a seventh of a static binary otherwise.
# Sourced by ./dev; needs DEV, TOP, say.sh, cross.sh.

# What we write is levels 3 and 15 (contract, Effort): the doubly fast way and the optimal one. The rest of
# zstd's larger half is for other levels; frames of any level can be read.
edge_cflags() {
    local level flags=""
    for level in GREEDY LAZY LAZY2 BTLAZY2 BTULTRA; do flags+=" -DZSTD_EXCLUDE_${level}_BLOCK_COMPRESSOR=1"; done
    echo "${flags# } -DHUF_FORCE_DECOMPRESS_X1=1 -DZSTD_FORCE_DECOMPRESS_SEQUENCES_SHORT=1"
}

# edge_link_flags <machine>: without these a static binary that may be loaded anywhere is 0.7 MB larger.
edge_link_flags() {
    local flags="-C link-arg=-Wl,--no-eh-frame-hdr -C link-arg=-Wl,-T,$TOP/tests/setup/edge.ld"
    # GNU's linker packs relocations for x86 alone.
    if [[ $1 == x86_64 ]]; then flags="-C link-arg=-Wl,-z,pack-relative-relocs $flags"; fi
    echo "$flags"
}

# edge_build: builds it for this machine and prints its path.
edge_build() { cross_build "$(uname -m)" gateway; }

# What a box gets is at most this large.
EDGE_BYTES_MAX=$((5 * 1024 * 1024))

# edge: builds it, has it prove itself, and says how large it is.
edge() {
    local binary bytes
    binary=$(edge_build) || return 1
    bytes=$(stat -c %s "$binary")
    "$binary" selftest >"$DEV/edge.log" 2>&1 || { cat "$DEV/edge.log"; return 1; }
    printf '  %s: %d bytes, selftest passed\n' "${binary#"$TOP/"}" "$bytes"
    if [[ $binary == *-musl*/* ]] && ((bytes > EDGE_BYTES_MAX)); then
        printf '✗ the gateway for boxes is larger than %d bytes\n' "$EDGE_BYTES_MAX"
        return 1
    fi
}
