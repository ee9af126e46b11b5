# shellcheck shell=bash
# Proof that codec needs nothing but `core`: it is built for microcontrollers, on which there is no `std`,
# against a library directory in which there is no `alloc` either. One of them, thumbv6m, has no atomic
# compare-and-swap, which dependencies like to assume.
#
# Ways to `core` for them: the toolchain has it; rustup fetches it; Debian's rustc-web builds it from its
# own sources, unpacked below .dev/. The last takes minutes and 900 MB of disk, so it is only gone with --all.
# Sourced by ./dev; needs DEV, say.sh, apt.sh, needs.sh, and .dev/env read.

THUMB_TARGETS=(thumbv7em-none-eabihf thumbv6m-none-eabi)

# thumb_libraries <target>: where the toolchain keeps its libraries for it.
thumb_libraries() { echo "$(rustc --print sysroot)/lib/rustlib/$1/lib"; }
thumb_missing() {
    local target missing=()
    for target in "${THUMB_TARGETS[@]}"; do
        if ! compgen -G "$(thumb_libraries "$target")/libcore-*.rlib" >/dev/null; then missing+=("$target"); fi
    done
    echo "${missing[*]}"
}

# thumb <apt: 0 or 1>
thumb() {
    local target missing
    missing=$(thumb_missing)
    : >"$DEV/thumb.log"
    if [[ -n $missing ]] && command -v rustup >/dev/null; then
        say "rustup: fetching core for $missing (10 MB each) ..."
        # shellcheck disable=SC2086 # several targets
        timeout 120 rustup target add $missing >"$DEV/thumb.log" 2>&1 || true
        missing=$(thumb_missing)
    fi
    if [[ -z $missing ]]; then
        for target in "${THUMB_TARGETS[@]}"; do thumb_core_only "$target" || return 1; done
        printf '  built with core alone: %s (%s)\n' "${THUMB_TARGETS[*]}" "$(rustc --version)"
    elif ! have_apt; then
        skip "codec for microcontrollers: no rustup that adds $missing (.dev/thumb.log), and no apt"
    elif ! unpacked thumb && ! (($1)); then
        skip "codec for microcontrollers: rustup cannot add $missing (.dev/thumb.log); ./dev test --all gets Debian's sources of core"
    elif ! (thumb_unpack) 2>>"$DEV/thumb.log"; then
        skip "codec for microcontrollers: neither rustup nor apt has core for them (.dev/thumb.log): $(tail -n2 "$DEV/thumb.log" | paste -sd' ' -)"
    else
        thumb_build_core
    fi
}

# Against a copy of the toolchain's libraries that has core and what compilers need, and no alloc.
thumb_core_only() {
    local target=$1 sysroot=$DEV/thumb/sysroot libraries name flags
    libraries=$sysroot/lib/rustlib/$target/lib
    rm -rf "$libraries"
    mkdir -p "$libraries"
    for name in core compiler_builtins; do
        ln -s "$(thumb_libraries "$target")/lib$name"-* "$libraries/"
    done
    flags=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_RUSTFLAGS
    # Set for everything, flags would replace those for the target.
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS "$flags=--sysroot=$sysroot" cargo build --quiet -p codec --lib --target "$target" --target-dir "$DEV/thumb/target"
}

thumb_unpack() {
    apt_lists
    apt_knows rust-web-src || die "apt: there is no rust-web-src" "nothing; this proof needs rustup or a newer Debian"
    apt_unpack thumb 'rustc-web|cargo-web|rust-web-src|libstd-rust-web-dev|lib[^=]*' rustc-web cargo-web rust-web-src
    local root=$DEV/unpacked/thumb libraries program
    libraries=$(library_links "$root")
    for program in rustc cargo; do wrapper "thumb-$program" "$libraries" "$root/usr/bin/$program"; done
}

# Debian's compiler has no core for these targets, but its sources: only core is built of them.
thumb_build_core() {
    local target
    for target in "${THUMB_TARGETS[@]}"; do
        RUSTC_BOOTSTRAP=1 RUSTC=$DEV/bin/thumb-rustc "$DEV/bin/thumb-cargo" build --quiet \
            -p codec --lib --target "$target" -Zbuild-std=core --target-dir "$DEV/thumb/target-apt" || return 1
    done
    printf '  built with core alone: %s (%s, core built from source)\n' "${THUMB_TARGETS[*]}" "$("$DEV/bin/thumb-rustc" --version)"
}
