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
    # What the agent said and the aggregator answered last, for whoever reads the console.
    cat /tmp/agent.log /tmp/nodes /tmp/topology 2>/dev/null
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
nodes_known() { fetch nodes /api/v1/nodes && grep -q '"programs":\[{' /tmp/nodes; }

# Whether the topology tells each of these numbers somewhere.
told() {
    fetch topology /api/v1/topology || return 1
    for number; do
        grep -q "\"${number}[,}]" /tmp/topology || return 1
    done
}

# ended PID: it stopped with success after a SIGTERM.
ended() { kill -TERM "$1" && wait "$1"; }

# peer NAME FD CGROUP: starts a traffic peer that reads from this file descriptor of ours. It must not
# inherit those of the others: a peer ends when nobody can write to it any more.
peer() {
    cp /bin/weft-traffic "/bin/$1"
    mkfifo "$1.input"
    sh -c 'exec 4>&- 5>&- 6>&-; echo 0 >"$1" && exec "$2"' sh "$3/cgroup.procs" "$1" \
        <"$1.input" >"$1.answers" &
    eval "exec $2>$1.input"
}

# ask NAME FD LINE: gives a peer a command and waits for its answer.
ask() {
    answers=$(grep -c . "$1.answers")
    echo "$3" >&"$2"
    step "$1 answers $3" until_true 60 answered "$1" "$answers"
    step "$1 does $3" tell_no_error "$1"
}
answered() { [ "$(grep -c . "$1.answers")" -gt "$2" ]; }
tell_no_error() { ! tail -n 1 "$1.answers" | grep '"answer":"error"'; }

# The kernel's own list of symbols has one for each loaded program. What was there before any of
# ours does not count.
echo 1 >/proc/sys/net/core/bpf_jit_kallsyms
loaded() { grep -c ' bpf_prog_' /proc/kallsyms; }
before=$(loaded)
pinned=$(ls -A /sys/fs/bpf)
more_loaded() { [ "$(loaded)" -gt "$before" ]; }
none_left() { [ "$(loaded)" -eq "$before" ] && [ "$(ls -A /sys/fs/bpf)" = "$pinned" ]; }

cd /tmp || exit 1
shop=/sys/fs/cgroup/shop
mkdir "$shop"

step "pki init" weft-aggregator pki init /tmp/pki
step "pki node" weft-aggregator pki node /tmp/pki guest
weft-aggregator --grpc-listen '[::]:7443' --http-listen 127.0.0.1:7480 --data-dir /tmp/data \
    --tls-cert pki/aggregator.crt --tls-key pki/aggregator.key --tls-client-ca pki/ca.crt &
aggregator=$!
step "aggregator is ready" until_true 60 wget -q -O - "$api/readyz"

# The doctor tells by its exit code whether the main job can be done.
weft-agent doctor --cgroup "$shop" >/tmp/doctor
doctor=$?
cat /tmp/doctor
tell doctor
cat /tmp/doctor >&3
step "doctor finds the main job possible" [ "$doctor" -eq 0 ]

# Two workloads and a process that the agent does not cover.
peer shop-server 4 "$shop"
server=$!
peer shop-client 5 "$shop"
client=$!
peer outside 6 /sys/fs/cgroup
outside=$!
# Older than the agent.
ask shop-server 4 '{"do":"listen","address":"127.0.0.1:8083"}'
ask shop-client 5 '{"do":"open","group":"old","target":"127.0.0.1:8083","connections":2}'
ask shop-client 5 '{"do":"exchange","group":"old","requests":1,"request_bytes":100,"response_bytes":1000}'

pins=/sys/fs/bpf/weft
start_agent() {
    weft-agent --aggregator https://localhost:7443 --node guest --cgroup "$shop" --interval 1s \
        --tls-ca pki/ca.crt --tls-cert pki/guest.crt --tls-key pki/guest.key --pin-dir "$pins" \
        --metrics-listen 127.0.0.1:7481 >>agent.log 2>&1 4>&- 5>&- 6>&- &
    agent=$!
    step "agent is healthy" until_true 60 wget -q -O - http://127.0.0.1:7481/healthz
}
start_agent
step "agent is known" until_true 60 nodes_known
step "programs are loaded" more_loaded

ask shop-server 4 '{"do":"listen","address":"127.0.0.1:8080"}'
ask shop-client 5 '{"do":"burst","target":"127.0.0.1:8080","connections":20,"requests":2,"request_bytes":100,"response_bytes":1000,"ending":"client_closes"}'
ask shop-client 5 '{"do":"burst","target":"127.0.0.1:8081","connections":3,"requests":1,"request_bytes":100,"response_bytes":100}'

# From here on nobody looks.
kill -KILL "$agent"
wait "$agent"

# Connections on which the client only ever receives; they stay open.
ask shop-server 4 '{"do":"listen","address":"127.0.0.1:8082"}'
ask shop-client 5 '{"do":"open","group":"live","target":"127.0.0.1:8082","connections":2}'
ask shop-server 4 '{"do":"push","address":"127.0.0.1:8082","bytes":150000}'
ask shop-client 5 '{"do":"receive","group":"live","bytes":150000}'
ask outside 6 '{"do":"listen","address":"127.0.0.1:8084"}'
ask shop-client 5 '{"do":"open","group":"hear","target":"127.0.0.1:8084","connections":1}'
ask outside 6 '{"do":"push","address":"127.0.0.1:8084","bytes":70000}'
ask shop-client 5 '{"do":"receive","group":"hear","bytes":70000}'

# What is older than the agent goes on, and the next agent with what is pinned.
ask shop-client 5 '{"do":"exchange","group":"old","requests":3,"request_bytes":200,"response_bytes":500}'
ask shop-client 5 '{"do":"burst","target":"127.0.0.1:8083","connections":5,"requests":1,"request_bytes":100,"response_bytes":100,"ending":"client_closes"}'

start_agent
cat agent.log
step "the agent goes on with what is pinned" grep -q 'going on with' agent.log

# The host compares, and can say what is wrong.
until_true 20 told 'bytes_to_client":40000' 'connections":20' 'refused":3' \
    'bytes_to_client":300000' 'bytes_to_client":70000' 'bytes_to_client":3500' ||
    echo "not everything was counted in time"
tell topology
cat /tmp/topology >&3
fetch nodes /api/v1/nodes
tell nodes
cat /tmp/nodes >&3

exec 4>&- 5>&- 6>&-
for peer in $client $server $outside; do
    step "peers stop at the end of their input" wait "$peer"
done
step "agent stops with success" ended "$agent"
step "aggregator stops with success" ended "$aggregator"
step "programs outlive the agent" more_loaded
step "detach" weft-agent detach --pin-dir "$pins"
# The kernel frees programs a moment after their last user is gone.
step "no kernel program is left" until_true 20 none_left
