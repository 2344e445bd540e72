use std::{collections::HashMap, ffi::OsString, path::Path};

use clap::Parser;
use proptest::prelude::*;

use super::*;

fn files(folder: &Path) -> Vec<String> {
    ["tls-cert", "tls-key", "tls-client-ca"]
        .into_iter()
        .flat_map(|flag| {
            let path = folder.join(flag);
            std::fs::write(&path, "").unwrap();
            [format!("--{flag}"), path.display().to_string()]
        })
        .collect()
}

fn resolve(
    arguments: &[String],
    environment: &[(&str, &str)],
    file: Option<&Path>,
) -> Result<Config, ConfigError> {
    let line = std::iter::once("weft-aggregator".to_owned()).chain(arguments.iter().cloned());
    let cli = Cli::try_parse_from(line).unwrap();
    let environment: HashMap<String, OsString> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
    let file = file.map(Path::to_path_buf);
    let look_up = move |name: &str| environment.get(name).cloned();
    Config::resolve(&Layers::gather(cli.flags, cli.repeated, file, look_up)?)
}

#[test]
fn flags_win_over_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weft.toml");
    std::fs::write(
        &file,
        "grpc-listen = \"127.0.0.1:1\"\nhttp-listen = \"127.0.0.1:1\"\ndata-dir = \"/file\"\n\
         expected-node = [\"a\", \"b\"]\nservice-graph-metrics = false\n",
    )
    .unwrap();
    let mut arguments = files(folder.path());
    let environment = [("WEFT_GRPC_LISTEN", "127.0.0.1:2"), ("WEFT_HTTP_LISTEN", "127.0.0.1:2")];
    arguments.extend(["--grpc-listen".to_owned(), "127.0.0.1:3".to_owned()]);
    let config = resolve(&arguments, &environment, Some(&file)).unwrap();
    assert_eq!(config.grpc_listen.port(), 3);
    assert_eq!(config.http_listen.port(), 2);
    assert_eq!(config.data_dir, Path::new("/file"));
    assert_eq!(config.expected_nodes, ["a", "b"]);
    assert!(!config.service_graph_metrics);
}

#[test]
fn defaults_are_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let config = resolve(&files(folder.path()), &[], None).unwrap();
    assert_eq!(config.grpc_listen.to_string(), "[::]:7443");
    assert_eq!(config.http_listen.to_string(), "127.0.0.1:7480");
    assert!(config.service_graph_metrics);
}

#[test]
fn what_is_wrong_is_one_line_that_names_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let good = files(folder.path());
    let with =
        |extra: [&str; 2]| good.iter().cloned().chain(extra.map(str::to_owned)).collect::<Vec<_>>();
    let file = folder.path().join("weft.toml");
    let message = |result: Result<Config, ConfigError>| {
        let message = result.unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    };

    assert!(message(resolve(&[], &[], None)).starts_with("--tls-client-ca is missing"));
    assert!(
        message(resolve(&with(["--grpc-listen", "nowhere"]), &[], None))
            .starts_with("--grpc-listen: `nowhere` is not an address")
    );
    assert!(
        message(resolve(&good, &[("WEFT_HTTP_LISTEN", "x")], None))
            .starts_with("WEFT_HTTP_LISTEN: `x`")
    );
    let mut without_key = good.clone();
    let at = without_key.iter().position(|argument| argument == "--tls-key").unwrap();
    without_key[at + 1] = "/absent/key".to_owned();
    let absent = message(resolve(&without_key, &[], None));
    assert!(absent.starts_with("--tls-key: `/absent/key`"), "{absent}");

    for (text, part) in [
        ("http-listen = \"x\"", "`http-listen` in"),
        ("no-such-key = 1", "no-such-key"),
        ("a = \n", "line 1"),
        ("grpc-listen = 7", "invalid type"),
    ] {
        std::fs::write(&file, text).unwrap();
        let message = message(resolve(&good, &[], Some(&file)));
        assert!(message.contains(part), "{text}: {message}");
        assert!(message.contains("weft.toml"), "{message}");
    }
    assert!(message(resolve(&good, &[], Some(Path::new("/absent")))).contains("/absent"));
}

proptest! {
    #[test]
    fn any_file_is_settings_or_an_error(text in "\\PC{0,60}|[a-z-]{1,12} = [^\n]{0,20}") {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weft.toml");
        std::fs::write(&file, text).unwrap();
        let _ = resolve(&[], &[], Some(&file));
    }
}
