//! `cargo xtask sbom`: what each program is made of, as CycloneDX.
//!
//! `cargo tree` says what is linked into a program, with the features that it is built with; names
//! and versions lead to the rest in `cargo metadata` and the lock file. Nothing in
//! the answer depends on the time or the machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    bpf::EBPF,
    process::{cargo, output_of, target_folder},
    terminal::say,
    workspace,
};

/// Version of the format.
const SPECIFICATION: &str = "1.6";

/// The programs that are given to users: name, package, and whether the kernel object is in it.
const PROGRAMS: [(&str, &str, bool); 2] =
    [("weft-agent", "node-agent", true), ("weft-aggregator", "aggregator", false)];

/// Name and version of a package.
type Package = (String, String);

/// Writes one file for each program.
///
/// # Errors
/// When cargo does not tell, or a file cannot be written.
pub fn write_all() -> Result<()> {
    let folder = target_folder().join("sbom");
    fs::create_dir_all(&folder)?;
    for (program, package, has_kernel_object) in PROGRAMS {
        let path = folder.join(format!("{program}.cdx.json"));
        let document = document(program, package, has_kernel_object)?;
        fs::write(&path, serde_json::to_string_pretty(&document)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
        say(format_args!("{}", path.display()));
    }
    Ok(())
}

fn document(program: &str, package: &str, has_kernel_object: bool) -> Result<Value> {
    let mut components = BTreeMap::new();
    let root = workspace();
    collect(&root.join("Cargo.toml"), Some(package), &mut components)?;
    if has_kernel_object {
        collect(&root.join(EBPF).join("Cargo.toml"), None, &mut components)?;
    }
    let own = components.keys().find(|(name, _)| name == package);
    let own = own.with_context(|| format!("{package} is not in its own tree"))?.clone();
    components.remove(&own);
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": program,
                "name": program,
                "version": own.1,
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": components.into_values().collect::<Vec<_>>(),
    }))
}

/// Adds what is linked into a package, or into all of a workspace.
fn collect(
    manifest: &Path,
    package: Option<&str>,
    components: &mut BTreeMap<Package, Value>,
) -> Result<()> {
    let linked = linked(manifest, package)?;
    let metadata = output_of(
        cargo()
            .args(["metadata", "--locked", "--format-version", "1", "--manifest-path"])
            .arg(manifest),
    );
    let metadata = metadata.context("`cargo metadata --locked` fails")?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let checksums = checksums(&manifest.with_file_name("Cargo.lock"))?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut known = BTreeMap::new();
    for facts in packages {
        let text = |key: &str| facts[key].as_str().unwrap_or_default().to_owned();
        known.insert((text("name"), text("version")), facts);
    }
    for package in linked {
        let Some(facts) = known.get(&package) else {
            bail!("{} {} is linked, but unknown to `cargo metadata`", package.0, package.1);
        };
        let checksum = checksums.get(&package).map(String::as_str);
        let component = component(&package, facts, checksum);
        components.insert(package, component);
    }
    Ok(())
}

/// What `cargo tree` says is linked.
fn linked(manifest: &Path, package: Option<&str>) -> Result<BTreeSet<Package>> {
    let mut command = cargo();
    command
        .args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none"])
        .args(["--format", "{p}", "--manifest-path"])
        .arg(manifest);
    if let Some(package) = package {
        command.args(["--package", package]);
    }
    let tree = output_of(&mut command).context("`cargo tree --locked` fails")?;
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some((name.to_owned(), version.to_owned()))
    };
    Ok(tree.lines().filter_map(line).collect())
}

fn checksums(lock: &Path) -> Result<BTreeMap<Package, String>> {
    let text = fs::read_to_string(lock).with_context(|| format!("{}", lock.display()))?;
    let lock: toml::Table = toml::from_str(&text)?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let entry = |package: &toml::Value| {
        let text = |key: &str| Some(package.get(key)?.as_str()?.to_owned());
        Some(((text("name")?, text("version")?), text("checksum")?))
    };
    Ok(packages.map(|packages| packages.iter().filter_map(entry).collect()).unwrap_or_default())
}

fn component((name, version): &Package, facts: &Value, checksum: Option<&str>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": format!("{name}@{version}"),
        "name": name,
        "version": version,
    });
    if let Some(license) = facts["license"].as_str() {
        // As crates wrote it before there was SPDX.
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    // The others are of this repository: a registry may have another crate by that name.
    if facts["source"].is_string() {
        component["purl"] = json!(format!("pkg:cargo/{name}@{version}"));
    }
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    if let Some(url) = facts["repository"].as_str() {
        component["externalReferences"] = json!([{"type": "vcs", "url": url}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(document: &Value) -> BTreeSet<String> {
        let components = document["components"].as_array().unwrap().iter();
        components.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_linked_package_is_in_it_with_its_checksum() {
        for (program, package, has_kernel_object) in PROGRAMS {
            let document = document(program, package, has_kernel_object).unwrap();
            let text = serde_json::to_string(&document).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), document);
            assert_eq!(document["metadata"]["component"]["name"], program);
            let names = names(&document);
            let linked = linked(&workspace().join("Cargo.toml"), Some(package)).unwrap();
            assert!(linked.len() > 50, "{linked:?}");
            for (name, _) in linked.iter().filter(|(name, _)| name != package) {
                assert!(names.contains(name), "{program} lacks {name}");
            }
            for linked in ["rustls", "ring", "tokio", "prost", "common"] {
                assert!(names.contains(linked), "{program} lacks {linked}");
            }
            // For tests, for building, and for expanding macros.
            for other in ["proptest", "tempfile", "protox", "syn", "serde_derive", "testbed"] {
                assert!(!names.contains(other), "{program} has {other}");
            }
            assert_eq!(names.contains("aya-ebpf"), has_kernel_object);
            for component in document["components"].as_array().unwrap() {
                let is_ours = component["purl"].is_null();
                assert_eq!(component["hashes"].is_null(), is_ours, "{component}");
                assert!(component["licenses"].is_array(), "{component}");
            }
        }
    }
}
