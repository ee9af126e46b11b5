# shellcheck shell=bash
# What people install: Debian packages and plain archives of gateway and cloud, below dist/.
#
# The trees are laid out here and packed by dpkg-deb, with what is in deploy/package. Each file carries the
# time of the last commit, so that the same commit makes the same package.
# Sourced by ./dev; needs DEV, TOP, say.sh, cross.sh.

PACKAGE_MAINTAINER="Milepost maintainers <milepost@users.noreply.github.com>"

package_version() { sed -nE 's/^version = "([^"]+)"/\1/p' "$TOP/Cargo.toml" | head -n1; }

# When what is packed last changed: seconds since 1970.
package_time() { git -C "$TOP" log -1 --format=%ct 2>/dev/null || stat -c %Y "$TOP/CHANGELOG.md"; }

# package_fill <name> <command> <documents> <file>: a file of deploy/package for this package.
package_fill() { sed -e "s#@NAME@#$1#g; s#@COMMAND@#$2#g; s#@DOCUMENTS@#$3#g" "$TOP/deploy/package/$4"; }

package_summary() {
    case $1 in
        gateway) echo "keeps what trackers send and forwards it to Redis" ;;
        cloud) echo "writes what gateways forward to PostgreSQL" ;;
    esac
}

# package_tree <name> <Debian architecture> <binary> <directory>: what the package unpacks to.
package_tree() {
    local name=$1 debian=$2 binary=$3 tree=$4 whole=milepost-$1 documents version
    documents=/usr/share/doc/$whole
    version=$(package_version)
    mkdir -p "$tree/DEBIAN" "$tree/usr/bin" "$tree/usr/lib/systemd/system" "$tree/usr/lib/sysusers.d" \
        "$tree/etc/milepost" "$tree$documents" "$tree/usr/share/lintian/overrides"
    install -m 0755 "$binary" "$tree/usr/bin/$whole"
    sed "s#/usr/local/bin/$name#/usr/bin/$whole#; /^# .*Install as/,/^\$/d" "$TOP/deploy/$name.service" >"$tree/usr/lib/systemd/system/$whole.service"
    package_fill "$name" "$whole" "$documents" sysusers.conf >"$tree/usr/lib/sysusers.d/$whole.conf"
    package_fill "$name" "$whole" "$documents" "$name.toml" >"$tree/etc/milepost/$name.toml"
    cp "$TOP/deploy/$name.env.example" "$tree$documents/"
    if [[ $name == gateway ]]; then cp "$TOP/deploy/board.conf" "$tree$documents/"; fi
    {
        printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n'
        printf 'Files: *\nCopyright: %s\nLicense: Expat or Apache-2.0\n\nLicense: Expat\n' "$(sed -nE 's/^Copyright (\(c\) )?//p' "$TOP/LICENSE-MIT" | head -n1)"
        sed -e '1,/^Copyright/d; /./!s/^/./; s/^/ /' "$TOP/LICENSE-MIT" | sed -e '1{/^ \.$/d}'
        printf '\nLicense: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n'
    } >"$tree$documents/copyright"
    printf '%s (%s) stable; urgency=medium\n\n  * See %s\n\n -- %s  %s\n' "$whole" "$version" \
        "$(sed -nE 's/^repository = "([^"]+)"/\1/p' "$TOP/Cargo.toml")/blob/main/CHANGELOG.md" \
        "$PACKAGE_MAINTAINER" "$(date -uR -d "@$(package_time)")" | gzip -9n >"$tree$documents/changelog.gz"
    # What lintian must know: static on purpose, help instead of a manual, services without debhelper.
    printf "$whole: %s\n" "statically-linked-binary [usr/bin/$whole]" "no-manual-page [usr/bin/$whole]" \
        'maintainer-script-calls-systemctl *' >"$tree/usr/share/lintian/overrides/$whole"
    local script
    for script in postinst prerm; do package_fill "$name" "$whole" "$documents" "$script" >"$tree/DEBIAN/$script"; done
    package_fill "$name" "$whole" "$documents" "$name.postrm" >"$tree/DEBIAN/postrm"
    chmod 0755 "$tree"/DEBIAN/*
    printf '/etc/milepost/%s.toml\n' "$name" >"$tree/DEBIAN/conffiles"
    # The user may write; nobody else may more than read, whatever the umask was.
    chmod -R u+rwX,go+rX,go-w "$tree"
    (cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
    printf '%s\n' "Package: $whole" "Version: $version" "Architecture: $debian" "Maintainer: $PACKAGE_MAINTAINER" \
        "Installed-Size: $(du -sk --apparent-size "$tree" | cut -f1)" "Depends: systemd" "Section: net" "Priority: optional" \
        "Homepage: $(sed -nE 's/^repository = "([^"]+)"/\1/p' "$TOP/Cargo.toml")" \
        "Description: Milepost $name: $(package_summary "$name")" \
        " What a tracker was told is safe reaches the database, once, whatever is" \
        " switched off on the way. This package has the $name as one static file," \
        " a hardened systemd unit and the user milepost." >"$tree/DEBIAN/control"
    chmod 0644 "$tree"/DEBIAN/{control,md5sums,conffiles}
}

# package_deb <name> <machine> <binary>: dist/milepost-<name>_<version>_<architecture>.deb
package_deb() {
    local MUSL GNU TRIPLE HEADERS DEBIAN tree file
    cross_names "$2"
    tree=$DEV/package/$1-$DEBIAN
    file=$TOP/dist/milepost-$1_$(package_version)_$DEBIAN.deb
    rm -rf "$tree"
    package_tree "$1" "$DEBIAN" "$3" "$tree"
    # gzip: any dpkg reads it, also those of small systems.
    SOURCE_DATE_EPOCH=$(package_time) dpkg-deb -Zgzip --root-owner-group --build "$tree" "$file" >/dev/null || return 1
    package_made "$file"
}

# package_archive <name> <machine> <binary>: dist/milepost-<name>-<version>-<machine>.tar.zst
package_archive() {
    local name=$1 whole tree documents=/usr/share/doc/milepost-$1
    whole=milepost-$name-$(package_version)-$2
    tree=$DEV/package/$whole
    documents=https://github.com/milepost/milepost/blob/main/deploy
    rm -rf "$tree"
    mkdir -p "$tree"
    install -m 0755 "$3" "$tree/$name"
    cp "$TOP/deploy/$name.service" "$tree/milepost-$name.service"
    cp "$TOP/deploy/$name.env.example" "$TOP/LICENSE-MIT" "$TOP/LICENSE-APACHE" "$tree/"
    if [[ $name == gateway ]]; then cp "$TOP/deploy/board.conf" "$tree/"; fi
    package_fill "$name" "$name" "$documents" "$name.toml" >"$tree/$name.toml"
    package_fill "$name" "$name" "$documents" install.sh >"$tree/install.sh"
    chmod 0755 "$tree/install.sh"
    (cd "$tree" && find . -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum >SHA256SUMS)
    chmod -R u+rwX,go+rX,go-w "$tree"
    tar -C "$DEV/package" --sort=name --mtime="@$(package_time)" --owner=0 --group=0 --numeric-owner -cf - "$whole" |
        zstd -q -19 -T1 -f -o "$TOP/dist/$whole.tar.zst" || return 1
    package_made "$TOP/dist/$whole.tar.zst"
}

package_made() { printf '  %-52s %9d bytes\n' "${1#"$TOP/"}" "$(stat -c %s "$1")"; }

# package_all <name> <machines...>
package_all() {
    local name=$1 machine binary made
    made=$(cross_build_all "$@") || return 1
    while read -r machine binary; do
        package_deb "$name" "$machine" "$binary" || return 1
        package_archive "$name" "$machine" "$binary" || return 1
        package_sbom "$name" "$machine" "$binary" || return 1
    done <<<"$made"
}

# Set where somebody waits for packages; a test does without rather than compile for minutes.
PACKAGE_BUILDS_TOOLS=0

# package_tool: cargo-cyclonedx; nothing where it cannot be had.
package_tool() {
    local tool=$DEV/tools/bin/cargo-cyclonedx
    if command -v cargo-cyclonedx >/dev/null; then
        command -v cargo-cyclonedx
    elif [[ -x $tool ]]; then
        echo "$tool"
    elif ((PACKAGE_BUILDS_TOOLS)); then
        say "cargo-cyclonedx is missing: building it below .dev/tools, once (minutes)"
        if cargo install --quiet --locked cargo-cyclonedx --root "$DEV/tools" >&8; then echo "$tool"; fi
    fi
}

# package_sbom <name> <machine> <binary>: what went into the program, crate by crate, with versions, licences
# and sums: dist/milepost-<name>-<version>-<machine>.cdx.json
package_sbom() {
    local tool target file
    tool=$(package_tool)
    if [[ -z $tool ]]; then
        skip "the list of what is in the packages (SBOM): no cargo-cyclonedx; ./dev package builds it"
        return 0
    fi
    # target/edge/<target>/<profile>/<name>
    target=$(basename "$(dirname "$(dirname "$3")")")
    file=$TOP/dist/milepost-$1-$(package_version)-$2.cdx.json
    # It writes beside every manifest of the workspace, one file for each program.
    SOURCE_DATE_EPOCH=$(package_time) "$tool" cyclonedx --manifest-path "$TOP/$1/Cargo.toml" --format json --spec-version 1.5 \
        --describe binaries --no-build-deps --target "$target" --quiet || return 1
    sed "s#$TOP#.#g" "$TOP/$1/$1_bin.cdx.json" >"$file" || return 1
    rm -f "$TOP"/*/*_bin.cdx.json
    package_made "$file"
}

# Whoever fetches a package compares it with this.
package_sums() {
    (cd "$TOP/dist" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum >SHA256SUMS)
    printf '  dist/SHA256SUMS\n'
}

# packages [all]: what boxes install; with `all` also the cloud, for servers.
packages() {
    rm -rf "$TOP/dist"
    mkdir -p "$TOP/dist"
    package_all gateway "${CROSS_MACHINES[@]}" || return 1
    if [[ ${1-} == all ]]; then package_all cloud x86_64 aarch64 || return 1; fi
    package_sums
}

# package_and_try [all]: makes them, and installs them in private directories.
package_and_try() {
    if ! command -v dpkg-deb >/dev/null || ! command -v zstd >/dev/null; then
        skip "packages: no dpkg-deb or no zstd here"
        return 0
    fi
    packages "$@" || return 1
    cargo build --quiet --workspace --bins >&8 || return 1
    MILEPOST_DIST=$TOP/dist timeout 600 cargo test --quiet --workspace --test cross -- package >"$DEV/package.log" 2>&1 || { cat "$DEV/package.log"; return 1; }
    grep -E '^test result|SKIP' "$DEV/package.log" | sed 's/^/  /'
    if command -v lintian >/dev/null; then
        lintian --allow-root --fail-on error,warning "$TOP"/dist/*.deb || return 1
        printf '  lintian has nothing to say\n'
    fi
}
