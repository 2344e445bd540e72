//! Where a run takes place: a folder, an aggregator, and the CA of its agents.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};

use crate::{
    pki::Authority,
    server::{self, Addresses, Server},
};

/// Where a run takes place.
pub struct Place {
    /// Data, certificates and the log of the aggregator; a temporary folder without it.
    pub dir: Option<PathBuf>,
    /// The program to start; the one beside this without it.
    pub program: Option<PathBuf>,
    /// An aggregator that runs already.
    pub attached: Option<Attached>,
}

/// An aggregator that runs already.
pub struct Attached {
    pub addresses: Addresses,
    pub pid: Option<u32>,
    /// The folder of its CA, and its trust domain.
    pub pki: PathBuf,
    pub trust_domain: String,
}

/// An aggregator to send to, and the CA of its agents.
pub struct Ready {
    pub authority: Authority,
    pub server: Arc<Server>,
    pub dir: Dir,
}

/// The folder of a run.
pub struct Dir {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Dir {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves a temporary folder to whoever wants to know what happened.
    pub fn keep(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            let _ = temporary.keep();
        }
    }
}

impl Ready {
    /// Starts an aggregator with these settings, or finds the one that runs.
    pub fn make(place: Place, settings: &[String]) -> Result<Self> {
        server::raise_file_limit();
        let dir = match place.dir {
            Some(path) => Dir { path, temporary: None },
            None => {
                let temporary = tempfile::tempdir()?;
                Dir { path: temporary.path().to_owned(), temporary: Some(temporary) }
            }
        };
        std::fs::create_dir_all(&dir.path).with_context(|| dir.path.display().to_string())?;
        let (authority, server) = match &place.attached {
            Some(attached) => {
                let authority = Authority::load(&attached.pki, &attached.trust_domain)?;
                (authority, Server::attach(attached.addresses, attached.pid))
            }
            None => {
                let authority = Authority::make(&dir.path.join("pki"))?;
                let program =
                    place.program.map_or_else(|| server::beside("weft-aggregator"), Ok)?;
                let server = Server::start(&program, &dir.path, &authority, settings)?;
                (authority, server)
            }
        };
        Ok(Self { authority, server: Arc::new(server), dir })
    }
}
