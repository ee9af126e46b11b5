# shellcheck shell=bash
# Debian packages of another architecture: headers, kernels, programs for boards. Unpacked below .dev/.
#
# With package lists of their own. The system's apt learns of no other architecture, and neither do the
# lists of apt.sh: some mirrors have the security archive for a few architectures only, and one index that
# cannot be had makes apt ignore the others of that archive. So only the main suites are asked, at the
# mirrors and with the keys that are configured. No dependency is followed: what is named is what comes.
# Sourced by ./dev; needs DEV, say.sh, apt.sh.

FOREIGN_ARCHITECTURES=(amd64 arm64 armhf)

# foreign_config: a configuration of apt that knows other architectures, with sources of its own.
foreign_config() {
    local config=$DEV/apt-foreign/apt.conf
    mkdir -p "$DEV/apt-foreign/state/lists/partial" "$DEV/apt-foreign/cache/archives/partial" "$DEV/apt-foreign/debs"
    {
        cat "$(apt_config)"
        printf 'Dir::State "%s";\nDir::Cache "%s";\n' "$DEV/apt-foreign/state" "$DEV/apt-foreign/cache"
        printf 'Dir::Etc::sourcelist "%s";\nDir::Etc::sourceparts "-";\n' "$DEV/apt-foreign/sources.list"
        printf '#clear APT::Architectures;\nAPT::Architectures {'
        printf ' "%s";' "$(dpkg --print-architecture)" "${FOREIGN_ARCHITECTURES[@]}"
        printf ' };\n'
    } >"$config"
    echo "$config"
}

# foreign_lists: fetches the lists of the other architectures, at most once a day.
foreign_lists() {
    local config
    config=$(foreign_config)
    if [[ -n $(find "$DEV/apt-foreign/lists.stamp" -mmin -1440 2>/dev/null) ]]; then return 0; fi
    # The main suites of the configured sources, without -security, -updates and -backports.
    apt-get -c "$(apt_config)" indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v architectures="$(IFS=,; echo "${FOREIGN_ARCHITECTURES[*]}")" \
            '$3 == "main" && $2 !~ /-/ { print "deb [arch=" architectures "] " $1, $2, $3 }' >"$DEV/apt-foreign/sources.list"
    say "apt: fetching the package lists of ${FOREIGN_ARCHITECTURES[*]} into .dev/apt-foreign ..."
    apt-get -c "$config" -qq update || die "apt: the package lists of ${FOREIGN_ARCHITECTURES[*]} could not be fetched" \
        "look at the lines above; the mirror has to carry these architectures"
    touch "$DEV/apt-foreign/lists.stamp"
}

# foreign_unpack <name> <Debian architecture> <packages...>: unpacks exactly these packages of that
# architecture into .dev/unpacked/<name>. Several may run at a time.
foreign_unpack() {
    local name=$1 architecture=$2 root=$DEV/unpacked/$1 config stamp package file new
    shift 2
    stamp="$architecture $* $(cat /etc/debian_version 2>/dev/null || true)"
    if [[ -f $root/.stamp && $(<"$root/.stamp") == "$stamp" ]]; then return 0; fi
    (
        mkdir -p "$DEV/unpacked" "$DEV/apt-foreign"
        exec 7>"$DEV/apt-foreign/lock"
        flock 7
        foreign_lists
        config=$(foreign_config)
        new=$(mktemp -d "$root.XXXXXX")
        say "apt: fetching $* ($architecture) into .dev/apt-foreign/debs ..."
        for package in "$@"; do
            # "'URI' FILE SIZE HASH": the name of the file it will be.
            file=$(apt-get -c "$config" download --print-uris "$package:$architecture" | awk '{ print $2 }')
            (cd "$DEV/apt-foreign/debs" && apt-get -c "$config" -qq download "$package:$architecture") ||
                die "apt: $package:$architecture could not be fetched" "run the same command again; what has arrived is kept"
            dpkg-deb -x "$DEV/apt-foreign/debs/$file" "$new"
        done
        chmod 755 "$new"
        printf '%s' "$stamp" >"$new/.stamp"
        rm -rf "$root"
        mv "$new" "$root"
    )
}
