# shellcheck shell=bash
# Gateway and cloud in containers: images built from deploy/Containerfile.*, run as they should be run, and
# tried: frames are acknowledged, the health probes answer, the spool outlives the container, rows arrive.
#
# With Docker whose daemon answers, or podman, the system's or Debian's unpacked below .dev/. Podman's
# images and containers stay below .dev/ too. Whether the kernel lets us is found out, and said.
# Sourced by ./dev; needs DEV, TOP, say.sh, apt.sh, cross.sh, and .dev/env read.

# container_engine: sets ENGINE_WORDS and, for podman, its environment; fails when there is none.
container_engine() {
    local root=$DEV/unpacked/containers work=$DEV/containers podman conmon runc
    if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
        ENGINE_WORDS=(docker)
        return 0
    fi
    if command -v podman >/dev/null && command -v conmon >/dev/null && command -v runc >/dev/null; then
        podman=$(command -v podman) conmon=$(command -v conmon) runc=$(command -v runc)
    elif have_apt && (apt_unpack containers '(podman|buildah|runc|conmon|golang-github-containers|uidmap|lib(gpgme|assuan|devmapper|subid|seccomp|yajl|glib|archive))[^=]*' podman runc conmon); then
        podman=$root/usr/bin/podman conmon=$root/usr/bin/conmon runc=$root/usr/sbin/runc
        LD_LIBRARY_PATH=$(library_links "$root")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        export LD_LIBRARY_PATH
    else
        return 1
    fi
    mkdir -p "$work"
    # vfs: slow, and it works in every directory. Our images are one file.
    printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/images"\nrunroot = "%s/run"\n' "$work" "$work" >"$work/storage.conf"
    # runc rather than crun, which wants to raise limits that may not be raised.
    printf '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=1000:1000"]\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nconmon_path = ["%s"]\ntmp_dir = "%s/tmp"\n[engine.runtimes]\nrunc = ["%s"]\n' \
        "$conmon" "$work" "$runc" >"$work/containers.conf"
    printf '{ "default": [{ "type": "insecureAcceptAnything" }] }\n' >"$work/policy.json"
    : >"$work/registries.conf"
    export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_REGISTRIES_CONF=$work/registries.conf
    ENGINE_WORDS=("$podman" --runtime "$runc")
}

# container_build <name> <binary>: the image milepost-<name>, also under its version, as compose.yaml and the
# manifests of Kubernetes name it.
container_build() {
    local context=$DEV/containers/$1 options=()
    if [[ ${ENGINE_WORDS[0]} != docker ]]; then options=(--isolation chroot --format docker --signature-policy "$DEV/containers/policy.json"); fi
    rm -rf "$context"
    mkdir -p "$context/state"
    cp "$2" "$context/$1"
    timeout 120 "${ENGINE_WORDS[@]}" build "${options[@]}" -f "$TOP/deploy/Containerfile.$1" -t "localhost/milepost-$1" \
        -t "localhost/milepost-$1:$(sed -nE 's/^version = "([^"]+)"/\1/p' "$TOP/Cargo.toml")" "$context" >"$DEV/containers/$1.log" 2>&1
}

# container_start <port> <pages>: the gateway with the volume milepost-test; nothing of it is writable but that.
container_start() {
    timeout 60 "${ENGINE_WORDS[@]}" run -d --name milepost-test --network host --no-healthcheck --read-only --cap-drop ALL \
        --security-opt no-new-privileges --pids-limit 64 -v milepost-test:/var/lib/milepost \
        -e "GATEWAY__LISTEN__TCP=127.0.0.1:$1" -e "GATEWAY__HTTP__LISTEN=127.0.0.1:$2" \
        -e GATEWAY__GATEWAY__ID=container -e GATEWAY__ACCESS__MODE=open -e GATEWAY__SPOOL__BYTES_MAX=64MiB \
        -e GATEWAY__UPLINK__URL=redis://127.0.0.1:1/ localhost/milepost-gateway >/dev/null
}

# container_says <words...>: what the program inside answers; it must within ten seconds.
container_says() { timeout 20 "${ENGINE_WORDS[@]}" exec milepost-test /gateway "$@"; }

# container_probe <name>: the words of the image's health probe, one a line.
container_probe() { sed -nE "s/^HEALTHCHECK .* CMD \\[\"\\/$1\", (.*)\\]\$/\\1/p" "$TOP/deploy/Containerfile.$1" | tr ',' '\n' | tr -d '" '; }

# container_healthy: waits until the probe is content; run by us, since podman leaves that to systemd.
container_healthy() {
    local tries probe
    mapfile -t probe < <(container_probe gateway)
    for ((tries = 100; tries > 0; tries--)); do
        if container_says "${probe[@]}" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    container_says "${probe[@]}"
}

# container_once <image> <words...>: runs them in a container of their own; prints what it said.
container_once() {
    local image=$1 state tries
    shift
    timeout 60 "${ENGINE_WORDS[@]}" run -d --name milepost-test --network host --no-healthcheck --read-only --cap-drop ALL \
        --security-opt no-new-privileges "localhost/$image" "$@" >/dev/null || return 1
    # Asked rather than waited for: where nobody reaps orphans, `podman wait` takes 20 s longer.
    for ((tries = 100; tries > 0; tries--)); do
        state=$(timeout 60 "${ENGINE_WORDS[@]}" inspect --format '{{.State.Status}} {{.State.ExitCode}}' milepost-test)
        if [[ $state == @(exited|stopped)* ]]; then break; fi
        sleep 0.1
    done
    "${ENGINE_WORDS[@]}" logs milepost-test 2>&1
    timeout 60 "${ENGINE_WORDS[@]}" rm -f milepost-test >/dev/null
    [[ $state == @(exited|stopped)" 0" ]]
}

container_gone() {
    timeout 60 "${ENGINE_WORDS[@]}" rm -f milepost-test >/dev/null 2>&1 || true
    timeout 60 "${ENGINE_WORDS[@]}" volume rm -f milepost-test >/dev/null 2>&1 || true
}

# A port that nobody has at the moment.
container_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# container_try: trackers' records are acknowledged, the container is killed, and another has them.
container_try() {
    local port pages before after account user
    port=$(container_port) pages=$(container_port)
    container_start "$port" "$pages" || return 1
    container_healthy || return 1
    user=$("${ENGINE_WORDS[@]}" inspect --format '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}' milepost-test)
    [[ $user == "65532:65532 true" ]] || { echo "it runs as '$user'"; return 1; }
    account=$("${CARGO_TARGET_DIR:-$TOP/target}/debug/fleet" --devices 5 --rate 5 --for 3 --to "127.0.0.1:$port" --json 2>/dev/null) || { echo "$account"; return 1; }
    before=$(container_says status --json | container_backlog)
    timeout 60 "${ENGINE_WORDS[@]}" rm -f milepost-test >/dev/null || return 1
    container_start "$port" "$pages" || return 1
    container_healthy || return 1
    after=$(container_says status --json | container_backlog)
    printf '  %s frames kept before and %s after the container was killed; fleet: %s\n' "$before" "$after" "$account"
    [[ $before -gt 0 && $before == "$after" ]]
}

container_backlog() { python3 -c 'import json, sys; print(json.load(sys.stdin)["spool"]["backlog"])'; }

# container_cloud <directory>: in it, a program `cloud` that is the cloud in its container. What it is told
# lies in private directories of whoever runs this, so that is who it runs as here.
container_cloud() {
    local name
    {
        printf '#!%s\n' "$(command -v bash)"
        for name in PATH HOME LD_LIBRARY_PATH CONTAINERS_CONF CONTAINERS_STORAGE_CONF CONTAINERS_REGISTRIES_CONF; do
            if [[ -n ${!name-} ]]; then printf 'export %s=%q\n' "$name" "${!name}"; fi
        done
        printf 'engine() { %s "$@"; }\n' "${ENGINE_WORDS[*]@Q}"
        printf 'shared=%q user=%s\n' "${TMPDIR:-/tmp}" "$(id -u):$(id -g)"
        # Asked rather than attached to, as in container_once. The last word is the file of settings.
        cat <<'CLOUD'
engine run -d --name milepost-test --network host --no-healthcheck --read-only --cap-drop ALL \
    --security-opt no-new-privileges --pids-limit 64 --user "$user" -v "$shared:$shared:ro" \
    -e "CLOUD_CONFIG=${!#}" localhost/milepost-cloud "$@" >/dev/null || exit 1
trap 'engine kill --signal TERM milepost-test >/dev/null' TERM
while [[ $(engine inspect --format '{{.State.Status}}' milepost-test) == running ]]; do sleep 0.2 & wait "$!"; done
engine logs milepost-test 2>&1
code=$(engine inspect --format '{{.State.ExitCode}}' milepost-test)
engine rm -f milepost-test >/dev/null
exit "$code"
CLOUD
    } >"$1/cloud"
    chmod +x "$1/cloud"
}

# container_road: trackers, gateway, Redis, PostgreSQL, and the cloud in its container: every record that
# was acknowledged is a row, once, and the health probe is content meanwhile.
container_road() {
    local built=${CARGO_TARGET_DIR:-$TOP/target}/debug bin=$DEV/containers/bin probe user pid healthy=0
    user=$("${ENGINE_WORDS[@]}" inspect --format '{{.Config.User}}' localhost/milepost-cloud)
    [[ $user == 65532:65532 ]] || { echo "the cloud runs as '$user'"; return 1; }
    mapfile -t probe < <(container_probe cloud)
    rm -rf "$bin"
    mkdir -p "$bin"
    ln -s "$built/gateway" "$bin/gateway"
    container_cloud "$bin"
    MILEPOST_BIN_DIR=$bin "$built/demo" --for 8 --devices 5 --rate 5 --no-browser --json \
        >"$DEV/containers/ledger.json" 2>"$DEV/containers/demo.log" &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        if ((healthy == 0)) && timeout 20 "${ENGINE_WORDS[@]}" exec milepost-test /cloud "${probe[@]}" >"$DEV/containers/probe.log" 2>&1; then healthy=1; fi
        sleep 0.2
    done
    wait "$pid" || { cat "$DEV/containers/demo.log" "$DEV/containers/ledger.json"; return 1; }
    if ((healthy == 0)); then
        echo "the health probe of the cloud was never content"
        cat "$DEV/containers/probe.log"
        return 1
    fi
    printf '  with the cloud in its container: %s\n' "$(<"$DEV/containers/ledger.json")"
}

# containers [release]: the images are built and tried. The cloud that is packed takes minutes to build and
# is what `release` asks for; what a container changes shows with one that was built quickly, too.
containers() {
    local ENGINE_WORDS=() binary cloud why probe
    if ! container_engine; then
        skip "containers: neither Docker nor podman here, and no apt that has podman"
        return 0
    fi
    if ! command -v python3 >/dev/null; then
        skip "containers: there is no python3, which reads what the gateway says"
        return 0
    fi
    cargo build --quiet -p gateway -p tests --bins || return 1
    binary=$(edge_build) || return 1
    container_build gateway "$binary" || { cat "$DEV/containers/gateway.log"; return 1; }
    # The kernel, or who we are, may not allow containers at all: the smallest one tells.
    container_gone
    if ! why=$(container_once milepost-gateway version 2>&1); then
        container_gone
        skip "containers: the images are built, but nothing runs here: $(tail -n1 <<<"$why")"
        return 0
    fi
    mapfile -t probe < <(container_probe gateway)
    if ((${#probe[@]} == 0)) || container_once milepost-gateway "${probe[@]}" >"$DEV/containers/probe.log" 2>&1; then
        echo "the health probe says that a gateway is well which is not there"
        return 1
    fi
    local result=0
    container_try || result=1
    if ((result)); then "${ENGINE_WORDS[@]}" logs milepost-test 2>&1 | tail -n 20 || true; fi
    container_gone
    ((result == 0)) || return 1
    cloud=$(CROSS_PROFILE_OF_SERVERS=${1-dev} CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_STRIP=true cross_build "$(uname -m)" cloud) || return 1
    container_build cloud "$cloud" || { cat "$DEV/containers/cloud.log"; return 1; }
    container_once milepost-cloud version || return 1
    container_road || result=1
    container_gone
    return "$result"
}
