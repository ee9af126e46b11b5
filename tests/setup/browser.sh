# shellcheck shell=bash
# The web app in a real browser: Chromium, Node.js 20 and the npm packages of cloud/web.
#
# Chromium is the system's, or Debian's, unpacked below .dev/ with the libraries it needs and never
# installed. The packages go to .dev/web by the lock file. None of it is needed to build the cloud: the
# built files of the app are committed.
# Sourced by ./dev; needs DEV, TOP, say.sh, apt.sh, needs.sh, and .dev/env read.

BROWSER_NODE_MIN=20

# browser_node: a Node.js new enough, else says why not.
browser_node() {
    local found
    found=$("${MILEPOST_NODE:-node}" --version 2>/dev/null | tr -d v)
    if ! at_least "$BROWSER_NODE_MIN" "$found"; then
        die "Node.js $BROWSER_NODE_MIN is needed, here is '${found:-none}'" "install nodejs $BROWSER_NODE_MIN and npm, or take an older one out of PATH and say ./dev setup"
    fi
}

# browser_packages: what cloud/web/package-lock.json names, in .dev/web.
browser_packages() {
    local stamp
    stamp=$(cat "$TOP"/cloud/web/package{,-lock}.json | sha1sum)
    if [[ -f $DEV/web/.stamp && $(<"$DEV/web/.stamp") == "$stamp" ]]; then return 0; fi
    say "npm: fetching what the web app is built and tested with (150 MB unpacked) ..."
    mkdir -p "$DEV/web"
    cp "$TOP"/cloud/web/package{,-lock}.json "$DEV/web/"
    (cd "$DEV/web" && npm ci --no-audit --no-fund --loglevel=error >"$DEV/web.log" 2>&1) ||
        die "npm could not fetch them (.dev/web.log): $(grep -m1 . "$DEV/web.log")" "check the network and npm's registry"
    echo "$stamp" >"$DEV/web/.stamp"
}

# browser_chromium: prints a Chromium that starts.
browser_chromium() {
    local name found
    for name in chromium chromium-browser google-chrome; do
        found=$(command -v "$name" || true)
        # A snap starts nothing for another directory of settings.
        if [[ -n $found ]] && chromium_starts "$found"; then
            echo "$found"
            return 0
        fi
    done
    have_apt || die "there is no Chromium here, and no apt to fetch one with" "install chromium"
    if ! unpacked chromium; then say "apt: fetching Chromium (100 MB) ..."; fi
    apt_unpack chromium 'chromium|chromium-common|fonts-dejavu-core|fontconfig-config|x11-[^=]*|xkb-data|libgl1-mesa-dri|lib[^=]*' \
        chromium chromium-common fonts-dejavu-core
    local root=$DEV/unpacked/chromium libraries dir
    libraries=$(library_links "$root")
    # Libraries of their own directories, which the names above do not reach.
    for dir in "$root"/usr/lib/"$(multiarch)"/*/; do
        if compgen -G "$dir"'lib*.so*' >/dev/null; then libraries+=:${dir%/}; fi
    done
    # Without letters every page has the same size, and tests of what fits say nothing.
    printf '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir>%s</dir><cachedir>%s</cachedir></fontconfig>\n' \
        "$root/usr/share/fonts" "$DEV/chromium-fonts" >"$DEV/chromium-fonts.conf"
    # The program itself: /usr/bin/chromium is a script that looks for settings of the system.
    wrapper chromium "$libraries" env FONTCONFIG_FILE="$DEV/chromium-fonts.conf" "$root/usr/lib/chromium/chromium"
    chromium_starts "$DEV/bin/chromium" || die "the unpacked Chromium does not start: $(tail -n1 "$DEV/chromium.log")" \
        "run $DEV/bin/chromium --headless --version to see why; install chromium to go around it"
    echo "$DEV/bin/chromium"
}

# chromium_starts <program>: does it draw an empty page?
chromium_starts() {
    local profile
    profile=$(mktemp -d "$DEV/chromium-profile.XXXXXX")
    local result=0
    timeout 60 "$1" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --disable-dev-shm-usage --user-data-dir="$profile" \
        --dump-dom 'data:text/html,<p>here</p>' 2>"$DEV/chromium.log" </dev/null | grep -q '<p>here</p>' || result=1
    rm -rf "$profile"
    return "$result"
}

# browser: what may stay unmet is skipped, and said.
browser() {
    local why chromium
    if ! why=$( (browser_node && browser_packages) 2>&1 >/dev/null); then
        skip "the web app's tests: $(paste -sd' ' - <<<"$why")"
        return 0
    fi
    export MILEPOST_WEB_DIR=$DEV/web
    if ! chromium=$( (browser_chromium) 2>"$DEV/browser.log"); then
        skip "browser tests: Chromium cannot be had: $(paste -sd' ' - <"$DEV/browser.log")"
        chromium=""
    else
        printf '  %s\n' "$("$chromium" --version 2>/dev/null || true) ($chromium)"
    fi
    cargo build -q -p gateway -p cloud >&8 || return 1
    # One after the other: each has servers and a browser that draws without a graphics card.
    MILEPOST_CHROMIUM=$chromium cargo test -q -p tests --test browser -- --nocapture --test-threads=1
}
