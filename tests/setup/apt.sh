# shellcheck shell=bash
# Debian packages without installing them: private lists and cache, `dpkg -x` below .dev/unpacked/.
#
# The system's sources, keys and proxies are used as they are; what it has installed is read, so that
# only what is missing gets fetched. Nothing outside .dev/ is written, no lock of the system is taken,
# no foreign architecture is added, none of the system's apt hooks runs.
# Sourced by ./dev; needs DEV and say.sh.

have_apt() { command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null && [[ -r /var/lib/dpkg/status ]]; }

# Debian's name for this machine's libraries, such as x86_64-linux-gnu.
multiarch() {
    case $(uname -m) in
        x86_64) echo x86_64-linux-gnu ;;
        aarch64) echo aarch64-linux-gnu ;;
        *) die "this machine is $(uname -m); ready-made servers exist for x86_64 and aarch64" \
            "install cc, redis-server and postgresql yourself and run ./dev again" ;;
    esac
}

# The name of every setting: apt.conf(5). `#clear` drops hooks the system's configuration brought.
apt_config() {
    local config=$DEV/apt/apt.conf
    mkdir -p "$DEV/apt/state/lists/partial" "$DEV/apt/cache/archives/partial" "$DEV/apt/debs"
    {
        printf 'Dir::State "%s";\nDir::Cache "%s";\n' "$DEV/apt/state" "$DEV/apt/cache"
        printf 'Dir::State::status "/var/lib/dpkg/status";\nDebug::NoLocking "1";\n'
        printf 'APT::Sandbox::User "root";\nAcquire::Languages "none";\nAcquire::Retries "3";\n'
        printf 'Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";\n'
        printf '#clear APT::Architectures;\nAPT::Architectures { "%s"; };\n' "$(dpkg --print-architecture)"
        printf '#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n'
        printf '#clear APT::Update::Post-Invoke-Success;\n#clear DPkg::Pre-Invoke;\n'
        printf '#clear DPkg::Post-Invoke;\n#clear DPkg::Pre-Install-Pkgs;\n'
    } >"$config"
    echo "$config"
}

# apt_lists: fetches the package lists, at most once a day.
apt_lists() {
    local config
    config=$(apt_config)
    if [[ -n $(find "$DEV/apt/lists.stamp" -mmin -1440 2>/dev/null) ]]; then return 0; fi
    say "apt: fetching package lists into .dev/apt ..."
    apt-get -c "$config" -qq update || die "apt: the package lists could not be fetched" \
        "look at the lines above; check the network and /etc/apt/sources.list"
    touch "$DEV/apt/lists.stamp"
}

# apt_knows <package>: has the configured archive got it?
apt_knows() { [[ -n $(apt-cache -c "$(apt_config)" search --names-only "^$1\$") ]]; }

# apt_unpack <name> <keep> <packages...>: unpacks the packages and those of their missing
# dependencies whose name matches the regular expression <keep>, into .dev/unpacked/<name>.
apt_unpack() {
    local name=$1 keep=$2 root=$DEV/unpacked/$1 config want line file count
    shift 2
    local stamp
    stamp="$keep $* $(cat /etc/debian_version 2>/dev/null || true)"
    if [[ -f $root/.stamp && $(<"$root/.stamp") == "$stamp" ]]; then return 0; fi
    apt_lists
    config=$(apt_config)
    # "Inst name [old version] (version origin ...)": one line per package that would be installed.
    if ! want=$(apt-get -c "$config" -s --no-install-recommends --reinstall install "$@" 2>"$DEV/apt/error"); then
        cat "$DEV/apt/error" >&2
        die "apt: no way to get: $*" "apt-get install --simulate $* shows the same; repair that, or install them yourself"
    fi
    mapfile -t want < <(sed -nE 's/^Inst ([^ ]+) (\[[^]]*\] )?\(([^ ]+) .*/\1=\3/p' <<<"$want" | grep -E "^($keep)=")
    say "apt: fetching ${#want[@]} packages for $name into .dev/apt/debs ..."
    (cd "$DEV/apt/debs" && apt-get -c "$config" -qq download "${want[@]}") ||
        die "apt: a download failed" "run the same command again; what has arrived is kept"
    rm -rf "$root.new"
    mkdir -p "$root.new"
    count=0
    for line in "${want[@]}"; do
        # In file names apt writes the colon of an epoch as %3a.
        file=("$DEV/apt/debs/${line%%=*}_$(sed 's/:/%3a/' <<<"${line#*=}")"_*.deb)
        dpkg-deb -x "${file[0]}" "$root.new"
        count=$((count + 1))
        if ((count % 50 == 0)); then say "apt: unpacked $count of ${#want[@]}"; fi
    done
    printf '%s' "$stamp" >"$root.new/.stamp"
    rm -rf "$root"
    mv "$root.new" "$root"
}

# library_links <root>: a directory with the shared libraries of <root>, but without the C library's
# own: programs must run with the loader and the C library of the system, which belong together.
library_links() {
    local root=$1 triple lib
    triple=$(multiarch)
    rm -rf "$root/.libraries"
    mkdir -p "$root/.libraries"
    for lib in "$root"{/usr,}/lib/{"$triple"/,}lib*.so*; do
        case ${lib##*/} in
            'lib*.so*' | libc.so* | libm.so* | libmvec.so* | libpthread.so* | libdl.so* | librt.so* | libutil.so* | \
                libresolv.so* | libnsl.so* | libanl.so* | libnss_* | libBrokenLocale.so* | libthread_db.so* | libc_malloc_debug.so*) ;;
            # A plain .so is mostly for the linker, a link or a script; some are the library itself.
            *.so) if [[ ! -L $lib && $(head -c4 "$lib") == $'\x7fELF' ]]; then ln -sf "$lib" "$root/.libraries/"; fi ;;
            *) ln -sf "$lib" "$root/.libraries/" ;;
        esac
    done
    echo "$root/.libraries"
}

# wrapper <name> <libraries> <program> [arguments...]: a program in .dev/bin that finds its libraries.
wrapper() {
    local name=$1 libraries=$2
    shift 2
    mkdir -p "$DEV/bin"
    {
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%q${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\nexport LD_LIBRARY_PATH\nexec' "$libraries"
        printf ' %q' "$@"
        printf ' "$@"\n'
    } >"$DEV/bin/$name"
    chmod +x "$DEV/bin/$name"
}
