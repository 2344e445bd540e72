# shellcheck shell=bash
# Installs what .ci/run needs beyond a Rust toolchain. Sourced by it; what is there already is kept.
# Leaves the folders of tools that are no packages of this Debian on the PATH.

TOOLS=$PWD/target/ci
BPF_LINKER_VERSION=0.13.0
LLVM=22

packages=(
    # the kernel object: a compiler with the BPF target's core library, and LLVM for its linker
    rustc-web libstd-rust-web-dev-bpf "llvm-$LLVM-dev" libzstd-dev
    # hosts made of namespaces, what is left of them, disks that fail, and other kernels
    iproute2 nftables procps e2fsprogs mount bpftool qemu-system-x86 busybox-static
    # instruction counts
    valgrind
    # checks
    build-essential pkg-config git ca-certificates openssl shellcheck systemd python3-venv
)

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q=2 -o DPkg::Lock::Timeout=300
    apt-get install -q=2 -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
        "${packages[@]}" >/dev/null
    command -v npm >/dev/null ||
        apt-get install -q=2 -y --no-install-recommends npm >/dev/null
}

# unpack SUITE FOLDER PACKAGE...: unpacks packages of a newer Debian into FOLDER/root, without installing them.
unpack() {
    local suite=$1 home=$2 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg archive
    shift 2
    if [[ ! -e $home/done ]]; then
        mkdir -p "$home/lists/partial"
        # shellcheck disable=SC2016  # apt's own placeholder
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
            grep -m1 '/debian/\?$')
        echo "deb [signed-by=$keyring] $mirror $suite main" >"$home/sources.list"
        local options=(
            "-oDir::State::Lists=$home/lists" "-oDir::Etc::SourceList=$home/sources.list"
            -oDir::Etc::SourceParts=/dev/null -oDir::State::Status=/dev/null
            -oDir::Cache::PkgCache= -oDir::Cache::SrcPkgCache= -oDebug::NoLocking=true
            -oAcquire::Languages=none -oAPT::Sandbox::User=root
            -oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        )
        apt-get "${options[@]}" update -q=2
        (cd "$home" && apt-get "${options[@]}" download -q=2 "$@")
        for archive in "$home"/*.deb; do
            dpkg --extract "$archive" "$home/root"
        done
        touch "$home/done"
    fi
}

# This Debian's promtool is too old to know what it must check, and its compose is the one of before the
# specification.
unpack_newer() {
    unpack trixie "$TOOLS/newer" promtool docker-compose kubectl
    PATH=$PATH:$TOOLS/newer/root/usr/bin
}

# What the tests of the aggregator's answers need: Grafana's own library, a Prometheus that reads native histograms,
# and what asks all that the description of the API allows. `cargo xtask test` calls it.
install_readers() {
    local data=13.2.3 schemathesis=4.32.5
    if [[ ! -e $TOOLS/grafana/$data ]]; then
        npm install --silent --no-audit --no-fund --prefix "$TOOLS/grafana" "@grafana/data@$data"
        touch "$TOOLS/grafana/$data"
    fi
    if [[ ! -e $TOOLS/schemathesis/$schemathesis ]]; then
        python3 -m venv "$TOOLS/schemathesis"
        "$TOOLS/schemathesis/bin/pip" install --quiet "schemathesis==$schemathesis"
        touch "$TOOLS/schemathesis/$schemathesis"
    fi
    unpack forky "$TOOLS/prometheus" prometheus
}

# Unpacks a container engine, without installing it: a daemon that starts by itself is nobody's here. Each test starts
# its own, with what it needs beside it.
unpack_docker() {
    local home=$TOOLS/docker archive name
    if [[ ! -e $home/done ]]; then
        mkdir -p "$home/root" "$home/links" "$home/bin"
        (cd "$home" && apt-get download -q=2 -oAPT::Sandbox::User=root \
            docker.io containerd runc tini libdevmapper1.02.1 libseccomp2 \
            iptables libip4tc2 libip6tc2 libxtables12 libnetfilter-conntrack3 libnfnetlink0 libnftnl11 libmnl0)
        for archive in "$home"/*.deb; do
            dpkg --extract "$archive" "$home/root"
        done
        # What the package's scripts would have linked.
        for name in iptables ip6tables iptables-save iptables-restore ip6tables-save ip6tables-restore; do
            ln -sf ../root/usr/sbin/xtables-nft-multi "$home/links/$name"
        done
        for name in usr/sbin/dockerd usr/bin/docker; do
            cat >"$home/bin/${name##*/}" <<EOF
#!/bin/sh
root=$home/root
lib=usr/lib/$(uname -m)-linux-gnu
export PATH=$home/links:\$root/usr/sbin:\$root/usr/bin:\$PATH
export LD_LIBRARY_PATH=\$root/\$lib:\$root/\${lib#usr/} XTABLES_LIBDIR=\$root/\$lib/xtables
exec \$root/$name "\$@"
EOF
            chmod +x "$home/bin/${name##*/}"
        done
        touch "$home/done"
    fi
    PATH=$PATH:$home/bin
}

install_checkers() {
    if [[ ! -x $TOOLS/python/bin/kubernetes-validate ]]; then
        python3 -m venv "$TOOLS/python"
        "$TOOLS/python/bin/pip" install --quiet kubernetes-validate==1.37.0
    fi
    if [[ ! -x $TOOLS/npm/node_modules/.bin/dockerfile-utils ]]; then
        npm install --silent --no-audit --no-fund --prefix "$TOOLS/npm" dockerfile-utils@0.16.3
    fi
    PATH=$PATH:$TOOLS/python/bin:$TOOLS/npm/node_modules/.bin
}

install_cargo_tools() {
    if [[ $(bpf-linker --version 2>/dev/null) != *" $BPF_LINKER_VERSION"* ]]; then
        LLVM_PREFIX=/usr/lib/llvm-$LLVM cargo install --quiet --locked \
            "bpf-linker@$BPF_LINKER_VERSION" --no-default-features --features "llvm-$LLVM"
    fi
    cargo deny --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-deny
}
