//! Where the API server is, and by what it knows who asks.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
};

/// Where a pod finds what it needs to ask the API server.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A token is a signed text of some hundred bytes.
const TOKEN_BYTES: usize = 64 << 10;

/// How an API server is reached. The files are read anew for every request: tokens and CAs change while a program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Name or address of its host.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// TLS, to a server whose certificate is of one of these CAs; `None` for a proxy on this very host, which has the
    /// rights itself.
    pub(crate) ca: Option<PathBuf>,
    /// File with the token; `None` for who goes without.
    pub(crate) token: Option<PathBuf>,
}

/// Why a server cannot be named so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// It is no URL of a server.
    #[error("`{0}` is not https://HOST:PORT")]
    Url(String),
    /// Whoever is on the way could read it.
    #[error("`{0}` is neither https nor on this host")]
    Plain(String),
}

impl Access {
    /// The server of the cluster that this program is a pod of; `None` when it is no pod, or one without an account.
    #[must_use]
    pub fn in_cluster(lookup: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let access = Self::of_account(Path::new(ACCOUNT), lookup)?;
        let has_account = access.files().all(Path::exists);
        has_account.then_some(access)
    }

    fn of_account(dir: &Path, lookup: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let host = lookup("KUBERNETES_SERVICE_HOST").filter(|host| !host.is_empty())?;
        let port = lookup("KUBERNETES_SERVICE_PORT").and_then(|port| port.parse().ok());
        let (ca, token) = (Some(dir.join("ca.crt")), Some(dir.join("token")));
        Some(Self { host, port: port.unwrap_or(443), ca, token })
    }

    /// The server at `https://HOST:PORT`, with the CA's certificate and the token from these files; where none is given,
    /// those of a pod. A proxy on this host, `http://127.0.0.1:8001`, needs neither.
    ///
    /// # Errors
    /// When it is no such URL.
    pub fn at(url: &str, ca: Option<&Path>, token: Option<&Path>) -> Result<Self, AccessError> {
        let wrong = || AccessError::Url(url.to_owned());
        let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(wrong()),
        };
        let place = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (place, None),
        };
        let port = port.map_or(Ok(if tls { 443 } else { 80 }), str::parse).map_err(|_| wrong())?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').filter(|ip| ip.parse::<Ipv6Addr>().is_ok()),
            None => Some(host).filter(|host| {
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
                !host.is_empty() && host.chars().all(fits)
            }),
        };
        let host = host.ok_or_else(wrong)?.to_owned();
        if !tls {
            let is_here = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            let plain = Self { host, port, ca: None, token: None };
            return if is_here { Ok(plain) } else { Err(AccessError::Plain(url.to_owned())) };
        }
        let file = |file: Option<&Path>, usual: &str| {
            file.map_or_else(|| Path::new(ACCOUNT).join(usual), Path::to_owned)
        };
        let (ca, token) = (Some(file(ca, "ca.crt")), Some(file(token, "token")));
        Ok(Self { host, port, ca, token })
    }

    /// The files that are read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.ca.iter().chain(&self.token).map(PathBuf::as_path)
    }

    /// Host and port, as a URL has them.
    pub(crate) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// What the file says now.
    pub(crate) fn read_token(&self) -> io::Result<Option<String>> {
        let Some(path) = &self.token else { return Ok(None) };
        let text = std::fs::read_to_string(path)?;
        let token = text.trim();
        let fits = !token.is_empty() && token.len() <= TOKEN_BYTES;
        if !fits || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no token"));
        }
        Ok(Some(token.to_owned()))
    }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_by_their_urls() {
        let at = |url: &str| Access::at(url, Some(Path::new("/ca")), Some(Path::new("/token")));
        for (url, expected) in [
            ("https://10.96.0.1", "https://10.96.0.1:443"),
            ("https://kube.example:6443/", "https://kube.example:6443"),
            ("https://[fd00::1]", "https://[fd00::1]:443"),
            ("https://[fd00::1]:6443", "https://[fd00::1]:6443"),
            ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
            ("http://[::1]:8001", "http://[::1]:8001"),
        ] {
            assert_eq!(at(url).unwrap().to_string(), expected, "{url}");
        }
        for url in [
            "",
            "https://",
            "https://a:b",
            "https://a/b",
            "https://a:1:2",
            "https://[a]",
            "a:1",
            "https://[::1",
            "https://u@a",
        ] {
            assert_eq!(at(url), Err(AccessError::Url(url.to_owned())));
        }
        let plain = "http://10.96.0.1:80";
        assert_eq!(at(plain), Err(AccessError::Plain(plain.to_owned())));
        // A proxy on this host has the rights itself: nothing is shown to it.
        assert_eq!(at("http://127.0.0.1:8001").unwrap().files().count(), 0);
    }

    #[test]
    fn a_pod_knows_its_server() {
        let set = |of: &[(&str, &str)]| {
            let of: Vec<_> = of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Access::of_account(Path::new("/account"), move |name| {
                of.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
            })
        };
        let access =
            set(&[("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "6443")]);
        let access = access.unwrap();
        assert_eq!(access.to_string(), "https://[fd00::1]:6443");
        let files: Vec<_> = access.files().collect();
        assert_eq!(files, [Path::new("/account/ca.crt"), Path::new("/account/token")]);
        assert_eq!(set(&[("KUBERNETES_SERVICE_HOST", "")]), None);
        assert_eq!(Access::in_cluster(|_| None), None);
    }

    #[test]
    fn a_token_is_read_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let access = Access::at("https://a", None, Some(&path)).unwrap();
        assert!(access.read_token().is_err());
        for (text, expected) in [("one\n", "one"), ("two", "two")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(access.read_token().unwrap().as_deref(), Some(expected));
        }
        for odd in ["", "\n", "a\nb", "a\u{e9}"] {
            std::fs::write(&path, odd).unwrap();
            assert!(access.read_token().is_err(), "{odd:?}");
        }
    }
}
