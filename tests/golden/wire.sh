# shellcheck shell=bash
# For the record scripts: two network namespaces with a cable between them, and a capture of it.
# The client is 10.40.0.1 and fd40::1, the server 10.40.0.2 and fd40::2. With the addresses of both,
# such as 10.30.0.9/24 10.30.0.1/24, `wire_up` gives them those, and no IPv6.
#
#   . wire.sh; wire_up; serve PROGRAM; wire_record in.pcap; client PROGRAM; wire_stop
readonly CLIENT=tyto-wire-client-$$ SERVER=tyto-wire-server-$$
WORK=$(mktemp -d)
TCPDUMP=""
export WORK

client() { ip netns exec "$CLIENT" "$@"; }
server() { ip netns exec "$SERVER" "$@"; }
# Runs a program of the server in the background, until the recording is over.
serve() { server "$@" &> "$WORK/served" & }

wire_down() {
    local netns pids
    for netns in "$CLIENT" "$SERVER"; do
        pids=$(ip netns pids "$netns" 2> /dev/null || true)
        # shellcheck disable=SC2086 # a list of numbers
        [[ -z $pids ]] || kill -KILL $pids 2> /dev/null || true
        ip netns del "$netns" 2> /dev/null || true
    done
    rm -rf "$WORK"
}

wire_up() {
    local netns address=${1:-10.40.0.1/24} other=${2:-10.40.0.2/24} v6=fd40::1
    SERVER_IP=${other%/*}
    export SERVER_IP
    trap wire_down EXIT
    ip netns add "$CLIENT"
    ip netns add "$SERVER"
    ip -n "$CLIENT" link add wire type veth peer name wire netns "$SERVER"
    for netns in "$CLIENT" "$SERVER"; do
        # Frames as on a wire: no segment larger than the MTU, checksums filled in.
        ip netns exec "$netns" ethtool -K wire tso off gso off gro off tx off rx off > /dev/null
        ip -n "$netns" address add "$address" dev wire
        if [[ $# -eq 0 ]]; then
            ip netns exec "$netns" sysctl -qw net.ipv6.conf.wire.router_solicitations=0
            ip -n "$netns" address add "$v6/64" dev wire nodad
        else
            ip netns exec "$netns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1
        fi
        ip -n "$netns" link set lo up
        ip -n "$netns" link set wire up
        address=$other v6=fd40::2
    done
}

# Waits until the server listens on a TCP port.
wire_wait() {
    local try
    for ((try = 0; try < 200; try++)); do
        if server ss -Hltn "sport = :$1" | grep -q .; then return 0; fi
        sleep 0.1
    done
    echo "nobody listens on port $1" >&2
    return 1
}

wire_record() {
    ip netns exec "$CLIENT" tcpdump -q -n -U -Z root -i wire -s 0 -w "$1" "${2:-ip or ip6 and not icmp6}" 2> /dev/null &
    TCPDUMP=$!
    sleep 1
}

wire_stop() {
    sleep "${1:-1}"
    kill -TERM "$TCPDUMP"
    wait "$TCPDUMP" || true
    wire_down
}
