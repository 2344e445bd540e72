use std::{collections::HashMap, ffi::OsString, path::PathBuf};

use proptest::prelude::*;

use super::{values::*, *};

struct Setup {
    dir: tempfile::TempDir,
    environment: HashMap<String, String>,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ca.crt", "n.crt", "n.key"] {
            std::fs::write(dir.path().join(name), "pem").unwrap();
        }
        Self { dir, environment: HashMap::new() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(self, text: &str) -> Self {
        let path = self.path("agent.toml");
        std::fs::write(&path, text).unwrap();
        self.env("WEFT_CONFIG", &path)
    }

    fn layers(&self, flags: &[&str]) -> Result<Layers, ConfigError> {
        let line = std::iter::once("weft-agent").chain(flags.iter().copied()).map(OsString::from);
        let (_, flags, config) = parse_command_line(line).unwrap();
        Layers::gather(flags, config, |name| self.environment.get(name).map(OsString::from))
    }

    fn resolve(&self, flags: &[&str]) -> Result<Config, ConfigError> {
        let (ca, cert, key) = (self.path("ca.crt"), self.path("n.crt"), self.path("n.key"));
        let mut all = vec!["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
        all.extend(flags);
        Config::resolve(&self.layers(&all)?)
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let setup = Setup::new()
        .file("aggregator = 'https://file:1'\nnode = 'file'\ninterval = '3s'\n")
        .env("WEFT_AGGREGATOR", "https://env:2")
        .env("WEFT_NODE", "env");
    let config = setup.resolve(&["--aggregator", "https://flag:3"]).unwrap();
    assert_eq!(shown(&config.aggregators), "flag:3");
    assert_eq!(config.node, "env");
    assert_eq!(config.interval, std::time::Duration::from_secs(3));
    assert_eq!(config.metrics_listen, DEFAULT_METRICS_LISTEN);
}

fn shown(aggregators: &[AggregatorAddress]) -> String {
    let shown: Vec<_> = aggregators.iter().map(ToString::to_string).collect();
    shown.join(" ")
}

#[test]
fn aggregators_may_be_several_wherever_they_are_set() {
    let resolved =
        |setup: Setup, flags: &[&str]| setup.resolve(flags).map(|c| shown(&c.aggregators));
    let flags = ["--aggregator", "https://a", "--aggregator", "https://b:1"];
    assert_eq!(resolved(Setup::new(), &flags).unwrap(), "a:7443 b:1");
    let env = Setup::new().env("WEFT_AGGREGATOR", "https://a, https://b:1");
    assert_eq!(resolved(env, &[]).unwrap(), "a:7443 b:1");
    let file = Setup::new().file("aggregator = ['https://a', 'https://b:1']");
    assert_eq!(resolved(file, &[]).unwrap(), "a:7443 b:1");
    let file = Setup::new().file("aggregator = []");
    assert!(resolved(file, &[]).unwrap_err().to_string().starts_with("--aggregator is missing"));
    let env = Setup::new().env("WEFT_AGGREGATOR", "https://a,");
    assert!(resolved(env, &[]).unwrap_err().to_string().starts_with("WEFT_AGGREGATOR: ``"));
}

#[test]
fn container_engines_are_those_of_this_host_unless_it_is_said_otherwise() {
    let resolved = |setup: Setup, flags: &[&str]| {
        let flags = [&["--aggregator", "https://a"], flags].concat();
        setup.resolve(&flags).map(|config| config.container_engines)
    };
    let sockets = |engines: Vec<Engine>| -> Vec<String> {
        engines.iter().map(|engine| engine.socket.display().to_string()).collect()
    };
    let default = resolved(Setup::new(), &[]).unwrap();
    assert!(default.iter().all(|engine| !engine.expected));
    assert_eq!(sockets(default), DEFAULT_ENGINES);
    let none = Setup::new().file("container-engine = 'none'");
    assert!(resolved(none, &[]).unwrap().is_empty());
    let flags = ["--container-engine", "unix:///a", "--container-engine", "/b"];
    let set = resolved(Setup::new().env("WEFT_CONTAINER_LABEL", "team, org.*"), &flags).unwrap();
    let labels = Labels::new(vec!["team".to_owned(), "org.*".to_owned()]);
    assert!(set.iter().all(|engine| engine.expected && engine.labels == labels));
    assert_eq!(sockets(set), ["/a", "/b"]);
    for wrong in ["docker.sock", "/a,", "none,/a", ""] {
        let error = resolved(Setup::new().env("WEFT_CONTAINER_ENGINE", wrong), &[]).unwrap_err();
        assert!(error.to_string().starts_with("WEFT_CONTAINER_ENGINE: `"), "{error}");
    }
    assert!(resolved(Setup::new().env("WEFT_CONTAINER_LABEL", "a,"), &[]).is_err());
    let states = |setup: Setup| {
        setup.resolve(&["--aggregator", "https://a"]).map(|config| config.container_states)
    };
    assert_eq!(states(Setup::new()).unwrap().len(), DEFAULT_STATES.len());
    let set = states(Setup::new().file("container-state = ['/a', '/b']")).unwrap();
    assert_eq!(set, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert!(states(Setup::new().file("container-state = 'none'")).unwrap().is_empty());
    assert!(states(Setup::new().file("container-state = 'run'")).is_err());
}

#[test]
fn pods_are_asked_for_where_it_is_said() {
    let resolved = |setup: &Setup, flags: &[&str]| {
        let flags = [&["--aggregator", "https://a", "--node", "n1"], flags].concat();
        setup.resolve(&flags).map(|config| config.kubernetes)
    };
    let setup = Setup::new();
    assert_eq!(resolved(&setup, &["--kubernetes", "none"]).unwrap(), None);
    let (ca, token) = (setup.path("ca.crt"), setup.path("n.key"));
    let flags =
        ["--kubernetes", "https://k:6443", "--kubernetes-ca", &ca, "--kubernetes-token", &token];
    let found = resolved(&setup, &flags).unwrap().unwrap();
    assert_eq!((found.access.to_string(), found.node.as_str()), ("https://k:6443".into(), "n1"));
    let files: Vec<_> = found.access.files().map(|file| file.to_str().unwrap()).collect();
    assert_eq!(files, [ca, token]);
    let proxy = Setup::new()
        .file("kubernetes = 'http://127.0.0.1:8001'\nkubernetes-node = 'other'")
        .env("WEFT_CONTAINER_LABEL", "team");
    let found = resolved(&proxy, &[]).unwrap().unwrap();
    let labels = Labels::new(vec!["team".to_owned()]);
    assert_eq!((found.node.as_str(), &found.labels), ("other", &labels));
    assert_eq!(found.access.files().count(), 0);
    for wrong in ["", "off", "http://10.0.0.1", "https://a/b"] {
        let error = resolved(&setup, &["--kubernetes", wrong]).unwrap_err().to_string();
        assert!(error.starts_with("--kubernetes: `"), "{error}");
        assert!(error.ends_with("write https://HOST:PORT, auto or none"), "{error}");
    }
    assert!(resolved(&setup, &["--kubernetes-ca", "/no/such"]).is_err());
}

#[test]
fn sizes() {
    assert_eq!(bytes("20000"), Ok(20_000));
    assert_eq!(bytes("16KiB"), Ok(16 << 10));
    assert_eq!(bytes("2GiB"), Ok(2 << 30));
    for bad in ["", "MiB", "1", "16KB", "-1MiB", "99999999999999GiB", "1 MiB"] {
        assert!(bytes(bad).is_err(), "{bad}");
    }
}

#[test]
fn defaults_are_the_cgroup_root_and_the_host_name() {
    let config = Setup::new().resolve(&["--aggregator", "https://a:1"]).unwrap();
    assert_eq!(config.node, host_name().unwrap());
    assert_eq!(config.cgroup.dir(), CgroupFs::default_root().unwrap().dir());
    assert_eq!(config.interval, DEFAULT_INTERVAL);
    assert_eq!((config.queue_max_bytes, config.spool_dir), (4 << 20, None));
}

#[test]
fn a_wrong_value_is_one_line_that_names_its_origin() {
    let good = ["--aggregator", "https://a:1"];
    let cases: Vec<(Setup, Vec<&str>, &str)> = vec![
        (Setup::new(), vec![], "--aggregator is missing"),
        (Setup::new().env("WEFT_INTERVAL", "fast"), good.to_vec(), "WEFT_INTERVAL: `fast`"),
        (Setup::new().file("interval = '0s'"), good.to_vec(), "`interval` in /"),
        (Setup::new().file("node = 'a'\nnod = 'b'"), good.to_vec(), "line 2: unknown field"),
        (Setup::new().file("node = "), good.to_vec(), "config file /"),
        (Setup::new(), vec!["--aggregator", "http://a:1"], "--aggregator: `http://a:1` does not"),
        (Setup::new(), [&good[..], &["--cgroup", "/nowhere"]].concat(), "--cgroup: /nowhere"),
        (Setup::new(), [&good[..], &["--cgroup", "/proc"]].concat(), "not on a cgroup v2"),
        (Setup::new(), [&good[..], &["--node", "a b"]].concat(), "--node: `a b`"),
        (Setup::new(), [&good[..], &["--metrics-listen", "x"]].concat(), "--metrics-listen: `x`"),
        (
            Setup::new(),
            [&good[..], &["--metrics-listen", "0.0.0.0:1"]].concat(),
            "--metrics-listen 0.0.0.0:1 is not loopback",
        ),
        (
            Setup::new().file("metrics-insecure = 'perhaps'"),
            good.to_vec(),
            "`metrics-insecure` in /",
        ),
    ];
    for (setup, flags, expected) in cases {
        let message = setup.resolve(&flags).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        assert_eq!(message.lines().count(), 1);
    }
}

#[test]
fn metrics_are_for_this_host_unless_it_is_said_otherwise() {
    let listen = ["--aggregator", "https://a:1", "--metrics-listen", "[::]:7481"];
    for setup in [
        Setup::new().file("metrics-insecure = true"),
        Setup::new().env("WEFT_METRICS_INSECURE", "true"),
    ] {
        assert!(setup.resolve(&listen).unwrap().metrics_listen.ip().is_unspecified());
    }
    assert!(Setup::new().resolve(&[&listen[..], &["--metrics-insecure"]].concat()).is_ok());
    let off = Setup::new().file("metrics-insecure = false");
    assert!(matches!(off.resolve(&listen), Err(ConfigError::Unguarded(_))));
}

#[test]
fn a_missing_key_file_is_named() {
    let setup = Setup::new();
    std::fs::remove_file(setup.path("n.key")).unwrap();
    let error = setup.resolve(&["--aggregator", "https://a:1"]).unwrap_err().to_string();
    assert!(error.starts_with("--tls-key: "), "{error}");
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn the_certificate_must_be_the_nodes() {
    let pki = crate::testing::pki::Pki::new();
    let file = |name: &str| pki.path().join(name).to_str().unwrap().to_owned();
    let check = |node: &str, key: &str| {
        let (ca, cert, key) = (file("ca.crt"), file("node.crt"), file(key));
        let flags = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key, "--node", node];
        let flags = [&flags[..], &["--aggregator", "https://a:1"]].concat();
        let config = Config::resolve(&Setup::new().layers(&flags).unwrap()).unwrap();
        config.check_tls().map_err(|error| error.to_string())
    };
    assert_eq!(check("n1", "node.key"), Ok(()));
    let error = check("n2", "node.key").unwrap_err();
    assert_eq!(error, "--node is `n2`, but the certificate is that of node `n1`");
    let error = check("n1", "aggregator.key").unwrap_err();
    assert!(error.starts_with("--tls-ca, --tls-cert, --tls-key: "), "{error}");
    assert_eq!(error.lines().count(), 1);
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o604);
    std::fs::set_permissions(pki.path().join("node.key"), readable).unwrap();
    let error = check("n1", "node.key").unwrap_err();
    assert!(error.contains("with mode 0604, others than its owner"), "{error}");
}

#[test]
fn doctor_takes_flags_on_either_side() {
    for line in
        [["weft-agent", "--cgroup", "/x", "doctor"], ["weft-agent", "doctor", "--cgroup", "/x"]]
    {
        let (command, flags, config) = parse_command_line(line.map(OsString::from)).unwrap();
        assert_eq!((command, flags.cgroup.as_deref()), (Some(Command::Doctor), Some("/x")));
        assert_eq!(config, None::<PathBuf>);
    }
}

#[test]
fn aggregator_addresses() {
    let parsed = |text| aggregator(text).map(|address| address.to_string());
    assert_eq!(parsed("https://a.example:9").unwrap(), "a.example:9");
    assert_eq!(parsed("https://a/").unwrap(), "a:7443");
    assert_eq!(parsed("https://[fd77::1]:9").unwrap(), "[fd77::1]:9");
    for bad in [
        "",
        "a:1",
        "https://",
        "https://:1",
        "https://a:0",
        "https://a:x",
        "https://a/b",
        "https://fd77::1",
        "https://[fd77::1",
        "https://[a]:1",
        "https://[::1]9",
    ] {
        assert!(parsed(bad).is_err(), "{bad}");
    }
}

#[test]
fn intervals() {
    assert_eq!(interval("250ms").unwrap(), std::time::Duration::from_millis(250));
    for bad in ["", "1", "s", "1h", "-1s", "0s", "61s", "99999999999s", "4294967295m", "1 s"] {
        assert!(interval(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in ".{0,40}") {
        let _ = (aggregator(&text), node_name(&text), interval(&text), listen_address(&text));
        let _ = (aggregators(&text), bytes(&text), path(&text), engines(&text), states(&text));
        let _ = labels(&text);
    }
}
