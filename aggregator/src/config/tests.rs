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

#[test]
fn readers_from_elsewhere_must_say_who_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weft.toml");
    let (cert, key) = (folder.path().join("tls-cert"), folder.path().join("tls-key"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let good = files(folder.path());
    let with = |extra: &[&str], text: &str| {
        std::fs::write(&file, text).unwrap();
        let extra = extra.iter().map(ToString::to_string);
        resolve(&good.iter().cloned().chain(extra).collect::<Vec<_>>(), &[], Some(&file))
    };
    let tokens = format!("[[http-tokens]]\nname = \"a\"\nsha256 = \"{}\"\n", "0a".repeat(32));
    let everywhere = ["--http-listen", "0.0.0.0:7480"];
    let tls = ["--http-tls-cert", cert, "--http-tls-key", key];
    let both = [&everywhere[..], &tls].concat();

    for (extra, text) in
        [(&everywhere[..], ""), (&everywhere[..], &tokens), (&both[..], ""), (&everywhere[..], "")]
    {
        let error = with(extra, text).unwrap_err();
        assert!(matches!(error, ConfigError::Unguarded(_)), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    let config = with(&both, &tokens).unwrap();
    assert_eq!(config.http.tokens[0].sha256, [10; 32]);
    assert_eq!(config.http.tokens[0].grant.role, Role::Read);
    let ca = [&both[..], &["--http-client-ca", cert]].concat();
    assert!(with(&ca, "").unwrap().http.is_safe());
    assert!(with(&[&everywhere[..], &["--http-insecure"]].concat(), "").is_ok());
    assert!(with(&everywhere, "http-insecure = true").is_ok());
    assert!(with(&[], &tokens).unwrap().http.is_guarded(), "on loopback, too");

    for (extra, text, part) in [
        (&tls[..2], "", "--http-tls-key is missing"),
        (&["--http-client-ca", cert][..], "", "--http-tls-cert is missing"),
        (&[][..], "[[http-tokens]]\nname = \"a\"\nsha256 = \"xy\"", "64 hexadecimal digits"),
        (&[][..], &format!("{tokens}namespaces = []"), "could see nothing"),
        (&[][..], &format!("{tokens}role = \"king\""), "king"),
        (&[][..], &format!("{tokens}secret = 1"), "secret"),
    ] {
        let error = with(extra, text).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_new_token_is_let_in_by_the_lines_printed_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weft.toml");
    let made = crate::token::make("web \"team\"", Role::Admin, &["shop".to_owned()]).unwrap();
    let (token, lines) = made.split_once('\n').unwrap();
    assert!(token.starts_with("weft_") && token.len() == 69 && !lines.contains(token), "{made}");
    std::fs::write(&file, lines).unwrap();
    let config = resolve(&files(folder.path()), &[], Some(&file)).unwrap();
    let known = &config.http.tokens[0];
    assert_eq!(known.sha256, crate::token::sha256(token));
    let grant = Grant {
        name: "web \"team\"".to_owned(),
        role: Role::Admin,
        namespaces: Some(["shop".to_owned()].into()),
    };
    assert_eq!(*known.grant, grant);
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

#[test]
fn an_expiry_has_a_number_and_a_unit() {
    let seconds = |text| super::values::idle_expiry(text).map(|time| time.as_secs());
    for (text, expected) in [("30s", 30), ("90s", 90), ("10m", 600), ("1h", 3_600)] {
        assert_eq!(seconds(text), Ok(expected));
    }
    for wrong in [
        "",
        "s",
        "29s",
        "0h",
        "60",
        "1d",
        "-1h",
        "1 h",
        "99999999999999999999h",
        "9999999999999999999h",
    ] {
        assert!(seconds(wrong).is_err(), "{wrong}");
    }
}
