# shellcheck shell=bash
# Fuzzing codec: what it needs, seeds out of the vectors, runs. See codec/fuzz/README.md.
#
# With a nightly toolchain the address sanitizer is on; any other fuzzes without it, and that is said.
# Everything made here stays in .dev/fuzz, except for inputs that crash: they lie in codec/fuzz/artifacts
# until they are vectors.
# Sourced by ./dev; needs TOP, DEV, say.sh, and .dev/env read.

CARGO_FUZZ_VERSION=0.13.2
FUZZ=$TOP/codec/fuzz

fuzz_targets() { sed -nE 's/^path = "fuzz_targets\/(.*)\.rs"$/\1/p' "$FUZZ/Cargo.toml"; }

# libFuzzer is C++.
cxx_ok() {
    local dir result=1
    dir=$(mktemp -d)
    printf '#include <vector>\nint main() { return std::vector<int>(1)[0]; }\n' >"$dir/a.cc"
    if "${CXX:-c++}" -o "$dir/a" "$dir/a.cc" 2>/dev/null && "$dir/a"; then result=0; fi
    rm -rf "$dir"
    return "$result"
}

# Says what is missing and returns 1, or puts cargo-fuzz into PATH and chooses the toolchain.
fuzz_ready() {
    if ! cxx_ok; then
        skip "fuzzing codec: there is no working C++ compiler (${CXX:-c++}), libFuzzer needs one"
        return 1
    fi
    # In codec two of the dependencies have unsafe code, which is what the sanitizer watches.
    if cargo +nightly --version >/dev/null 2>&1; then
        FUZZ_CARGO=(cargo +nightly)
        FUZZ_OPTIONS=(--fuzz-dir "$FUZZ" --target-dir "$DEV/fuzz/target")
    else
        skip "fuzzing codec: no nightly toolchain, so without the address sanitizer (rustup toolchain install nightly --profile minimal)"
        FUZZ_CARGO=(cargo)
        FUZZ_OPTIONS=(--fuzz-dir "$FUZZ" --target-dir "$DEV/fuzz/target-plain" --sanitizer none)
    fi
    PATH=$DEV/tools/bin:$PATH
    if command -v cargo-fuzz >/dev/null; then return 0; fi
    say "cargo-fuzz is missing: building it below .dev/tools, once (one to two minutes)"
    if ! cargo install --quiet --locked "cargo-fuzz@$CARGO_FUZZ_VERSION" --root "$DEV/tools"; then
        skip "fuzzing codec: cargo-fuzz could not be built (the lines above say why)"
        return 1
    fi
}

# unhex <hex> <file>
unhex() { printf '%b' "$(sed 's/../\\x&/g' <<<"$1")" >"$2"; }

# vector_hex <transport>: the bytes of every valid vector of that kind, as "name hex".
vector_hex() {
    local file
    for file in "$TOP"/codec/vectors/*.json; do
        if grep -qx " \"transport\": \"$1\"," "$file" && grep -qx ' "valid": true,' "$file"; then
            printf '%s %s\n' "$(basename "$file" .json)" "$(sed -nE 's/^ "hex": "([0-9A-Fa-f]+)",?$/\1/p' "$file")"
        fi
    done
}

# fuzz_seeds: writes .dev/fuzz/seeds/TARGET/*, anew each time: the vectors are the only source.
fuzz_seeds() {
    local seeds=$DEV/fuzz/seeds target name hex login='' all='' line=0
    rm -rf "$seeds"
    for target in $(fuzz_targets); do mkdir -p "$seeds/$target"; done
    while read -r name hex; do
        unhex "$hex" "$seeds/frame/$name"
        login=$hex
    done < <(vector_hex login)
    while read -r name hex; do
        unhex "$hex" "$seeds/frame/$name"
        # Without preamble, length and checksum.
        unhex "${hex:16:${#hex}-24}" "$seeds/body/$name"
        # Choices and piece lengths in front (see the target): expecting a frame, in three pieces.
        unhex "090205FF$hex" "$seeds/stream/$name"
        all+=$hex
    done < <(vector_hex tcp; vector_hex command)
    # A whole connection: ping, login, ping, frames; closing, and looking for the next message after garbage.
    unhex "0C0103FF${login}FF$all" "$seeds/stream/connection"
    unhex "0E0201FFABCD00${login}ABFF$all" "$seeds/stream/garbage"
    while read -r name hex; do
        unhex "$hex" "$seeds/datagram/$name"
        # Behind length, ids, type and an identity of fifteen digits.
        unhex "${hex:46}" "$seeds/body/$name"
    done < <(vector_hex udp)
    while read -r name hex; do unhex "$hex" "$seeds/payload/$name"; done < <(vector_hex io-value)
    # Values inside the frames, and those that have no vector file.
    while read -r hex; do
        line=$((line + 1))
        unhex "$hex" "$seeds/payload/value-$line"
    done < <(
        sed -nE 's/^ {4,}"hex": "([0-9a-f]{20,})",?$/\1/p' "$TOP"/codec/vectors/*.json | sort -u
        grep -v '^#' "$FUZZ/seeds/payload.hex"
    )
}

# fuzz_run <target> <seconds>: new inputs are kept in .dev/fuzz/corpus, crashes below codec/fuzz.
fuzz_run() {
    local target=$1 seconds=$2 corpus=$DEV/fuzz/corpus/$1 log=$DEV/fuzz/$1.log
    mkdir -p "$corpus"
    say "fuzzing $target for $seconds s ..."
    if ! "${FUZZ_CARGO[@]}" fuzz run "${FUZZ_OPTIONS[@]}" "$target" \
        "$corpus" "$DEV/fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -timeout=10 -print_final_stats=1 >"$log" 2>&1; then
        grep -E 'panicked at|ERROR:|assertion|Test unit written|^ *(left|right):' "$log" | cut -c-300 || tail -n 5 "$log"
        printf '✗ %s: see %s and codec/fuzz/README.md\n' "$target" "$log"
        return 1
    fi
    printf '  %-12s %10s runs, %7s per second, %s inputs kept\n' "$target" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
        "$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")" \
        "$(find "$corpus" -type f | wc -l)"
}

# fuzz <seconds> [targets...]: all of them when none is named; the answer is whether one failed.
fuzz() {
    local seconds=$1 target result=0
    shift
    fuzz_ready || return 0
    if (($# == 0)); then mapfile -t targets < <(fuzz_targets) && set -- "${targets[@]}"; fi
    fuzz_seeds
    say "building the fuzz targets ..."
    if ! "${FUZZ_CARGO[@]}" fuzz build "${FUZZ_OPTIONS[@]}" >"$DEV/fuzz/build.log" 2>&1; then
        cat "$DEV/fuzz/build.log"
        return 1
    fi
    for target; do fuzz_run "$target" "$seconds" || result=1; done
    return "$result"
}
