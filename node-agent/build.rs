//! Names the compiled kernel programs for `include_bytes`.
fn main() {
    println!("cargo:rerun-if-changed=bpf/weft.bpf.o");
    println!("cargo:rustc-env=WEFT_BPF_OBJECT={}/bpf/weft.bpf.o", env!("CARGO_MANIFEST_DIR"));
}
