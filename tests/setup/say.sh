# How the scripts speak: what happens, what failed and what to do, how long each part took.
# Sourced by ./dev and .ci/run; needs DEV.

PART_NAMES=()
PART_SECONDS=()
PART_RESULTS=()
FAILED=0

# Progress goes to where standard output led at the start, also from inside $( ) and with output in a file.
exec 8>&1
say() { printf '· %s\n' "$*" >&8; }

# What was taken for a need: "need: way".
took() { printf '✓ %-12s %s\n' "$1" "$2"; }

# Something that will not be tested. Never silent, and said again at the end.
skip() {
    printf '! SKIP %s\n' "$*"
    if [[ -n ${MILEPOST_SKIPS-} ]]; then printf 'SKIP %s\n' "$*" >>"$MILEPOST_SKIPS"; fi
}

# die <what and why> <what to do> [exit code]
die() {
    printf '✗ %s\n  do: %s\n' "$1" "$2" >&2
    exit "${3-1}"
}

# A part without which the rest makes no sense.
timed() {
    part "$@"
    if ((FAILED)); then closing_table; fi
}

# part <name> <command...>: runs it, remembers time and result, goes on when it fails.
part() {
    local name=$1 start=$SECONDS result=ok
    shift
    if [[ $1 == setup ]]; then
        setup # in this shell: it exports what the later parts need, and ends the script when it fails
    else
        "$@" || { result=FAILED; FAILED=1; }
    fi
    PART_NAMES+=("$name")
    PART_SECONDS+=("$((SECONDS - start))")
    PART_RESULTS+=("$result")
}

# Prints the time of each part, what was skipped, one plain last line, and ends the script.
closing_table() {
    local i total=0
    printf '\n'
    for i in "${!PART_NAMES[@]}"; do
        printf '  %-28s %5d s  %s\n' "${PART_NAMES[i]}" "${PART_SECONDS[i]}" "${PART_RESULTS[i]}"
        total=$((total + PART_SECONDS[i]))
    done
    if [[ -n ${MILEPOST_SKIPS-} && -s ${MILEPOST_SKIPS-} ]]; then
        printf '\n'
        sort -u "$MILEPOST_SKIPS" | sed 's/^/! /'
    fi
    if ((FAILED)); then
        printf '\nfailed after %d s\n' "$total"
        exit 1
    fi
    printf '\nall parts ok in %d s\n' "$total"
    exit 0
}
