# Two network namespaces joined by a wire, for the `record` scripts beside the golden cases:
# `orig` (10.40.0.1, fd40::1) asks, `resp` (10.40.0.2, fd40::2) answers. To be sourced. Needs root.
# shellcheck shell=bash
set -euo pipefail

readonly ORIG=tyto-rec-orig-$$ RESP=tyto-rec-resp-$$
work=$(mktemp -d)
pids=()

in_orig() { ip netns exec "$ORIG" "$@"; }
in_resp() { ip netns exec "$RESP" "$@"; }

# Runs a program of the responder in the background, until the recording is over.
serve() {
    in_resp "$@" &> "$work/served" &
    pids+=($!)
}

hosts_end() {
    [[ ${#pids[@]} -eq 0 ]] || kill "${pids[@]}" 2> /dev/null || true
    wait "${pids[@]}" 2> /dev/null || true
    ip netns del "$ORIG" 2> /dev/null || true
    ip netns del "$RESP" 2> /dev/null || true
    rm -rf "$work"
}

hosts_begin() {
    trap hosts_end EXIT
    ip netns add "$ORIG"
    ip netns add "$RESP"
    ip -n "$ORIG" link add wire type veth peer name wire netns "$RESP"
    local end number=0
    for end in "$ORIG" "$RESP"; do
        number=$((number + 1))
        ip netns exec "$end" sysctl -qw net.ipv6.conf.wire.router_solicitations=0
        # Frames as on a wire: no segment larger than the MTU, checksums filled in.
        ip netns exec "$end" ethtool -K wire tso off gso off gro off tx off rx off > /dev/null
        ip -n "$end" address add "10.40.0.$number/24" dev wire
        ip -n "$end" address add "fd40::$number/64" dev wire nodad
        ip -n "$end" link set lo up
        ip -n "$end" link set wire up
    done
    sleep 0.5
}

# Captures into $1 what $2 (a filter) lets through, until capture_end.
capture_begin() {
    in_resp tcpdump -i wire -U -s 0 -w "$1" "$2" &> "$work/tcpdump" &
    capture=$!
    until grep -q "listening on" "$work/tcpdump"; do sleep 0.05; done
}

capture_end() {
    sleep 0.5
    kill -INT "$capture"
    wait "$capture" || true
}
