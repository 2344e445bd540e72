# shellcheck shell=sh
# Runs in the guest, by busybox sh. File descriptor 3 goes to the host: sections of `== NAME`.

api=http://127.0.0.1:7480

# Begins a section, on a line of its own: JSON does not end with one.
tell() { printf '\n== %s\n' "$1" >&3; }

# step WHAT COMMAND...: stops the guest with a word on what failed.
step() {
    what=$1
    shift
    echo "-- $what"
    "$@" && return
    # The last answers of the aggregator, for whoever reads the console.
    cat /tmp/nodes /tmp/topology 2>/dev/null
    tell failed
    echo "$what" >&3
    exit 1
}

# until_true SECONDS COMMAND...: waits for a condition.
until_true() {
    left=$(($1 * 5))
    shift
    while ! "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.2
    done
}

fetch() { wget -q -O "/tmp/$1" "$api$2"; }
all_counted() {
    fetch topology /api/v1/topology &&
        grep -q '"bytes_to_client":40000[,}]' /tmp/topology &&
        grep -q '"connections":20[,}]' /tmp/topology &&
        grep -q '"refused":3[,}]' /tmp/topology
}
nodes_known() { fetch nodes /api/v1/nodes && grep -q '"programs":\[{' /tmp/nodes; }

# ended NAME PID: it stopped with success after a SIGTERM.
ended() { kill -TERM "$1" && wait "$1"; }

cd /tmp || exit 1
cp /bin/weft-traffic /bin/shop-server
cp /bin/weft-traffic /bin/shop-client

step "pki init" weft-aggregator pki init /tmp/pki
step "pki node" weft-aggregator pki node /tmp/pki guest
weft-aggregator --grpc-listen '[::]:7443' --http-listen 127.0.0.1:7480 --data-dir /tmp/data \
    --tls-cert pki/aggregator.crt --tls-key pki/aggregator.key --tls-client-ca pki/ca.crt &
aggregator=$!
step "aggregator is ready" until_true 60 wget -q -O - "$api/readyz"

# The doctor tells by its exit code whether the main job can be done.
weft-agent doctor --cgroup /sys/fs/cgroup >/tmp/doctor
doctor=$?
cat /tmp/doctor
tell doctor
cat /tmp/doctor >&3
step "doctor finds the main job possible" [ "$doctor" -eq 0 ]

weft-agent --aggregator https://localhost:7443 --node guest --cgroup /sys/fs/cgroup --interval 1s \
    --tls-ca pki/ca.crt --tls-cert pki/guest.crt --tls-key pki/guest.key \
    --metrics-listen 127.0.0.1:7481 &
agent=$!
step "agent is healthy" until_true 60 wget -q -O - http://127.0.0.1:7481/healthz
step "agent is known" until_true 60 nodes_known

mkfifo server-input
shop-server <server-input >server-answers &
server=$!
exec 4>server-input
echo '{"do":"listen","address":"127.0.0.1:8080"}' >&4
step "server listens" until_true 30 grep -q listening server-answers
cat >client-input <<'COMMANDS'
{"do":"burst","target":"127.0.0.1:8080","connections":20,"requests":2,"request_bytes":100,"response_bytes":1000,"ending":"client_closes"}
{"do":"burst","target":"127.0.0.1:8081","connections":3,"requests":1,"request_bytes":100,"response_bytes":100}
{"do":"report"}
COMMANDS
step "client talks" shop-client <client-input
exec 4>&-
step "server stops at the end of its input" wait "$server"

# The host compares, and can say what is wrong.
until_true 60 all_counted || echo "not everything was counted in time"
tell topology
cat /tmp/topology >&3
tell nodes
cat /tmp/nodes >&3

step "agent stops with success" ended "$agent"
step "aggregator stops with success" ended "$aggregator"
