//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{Flags, Repeated, Role};

/// Merges what the agents of a fleet count into one graph of services, and serves it
#[derive(Clone, Debug, Parser)]
#[command(
    name = "weft-aggregator",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Every option can be set in the environment (WEFT_TLS_CERT for --tls-cert) and in \
                  a TOML file (tls-cert = \"…\"). An option wins over the environment, and the \
                  environment over the file."
)]
pub struct Cli {
    /// Something else than running the aggregator.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings given as flags.
    #[command(flatten)]
    pub flags: Flags,
    /// Settings that may be given several times.
    #[command(flatten)]
    pub repeated: Repeated,
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What else the program does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Make the certificates of a fleet
    #[command(subcommand)]
    Pki(Pki),
    /// Make a token for a reader: prints it, and the lines of the config file that let it in
    Token {
        /// Whose it is
        name: String,
        /// What its holder may do
        #[arg(long, value_enum, default_value_t)]
        role: Role,
        /// Let its holder see only this namespace; may be given several times
        #[arg(long, value_name = "NAME")]
        namespace: Vec<String>,
    },
}

/// Making certificates.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Pki {
    /// Make a CA and the aggregator's certificate in DIR: ca.crt ca.key aggregator.crt aggregator.key
    Init {
        /// Where to write; existing files are never overwritten
        dir: PathBuf,
        /// Trust domain of the fleet
        #[arg(long, value_name = "NAME", default_value = "weft.local")]
        trust_domain: String,
        /// A name or address that agents reach the aggregator by, beside localhost, 127.0.0.1,
        /// ::1 and this host's name; may be given several times
        #[arg(long, value_name = "DNS|IP")]
        san: Vec<String>,
    },
    /// Make the certificate of a node with the CA in DIR: NAME.crt NAME.key
    Node {
        /// Make a new certificate and key in place of those that are there
        #[arg(long)]
        renew: bool,
        /// Where the CA is and where to write
        dir: PathBuf,
        /// Name of the node
        name: String,
    },
    /// Revoke the certificate of a node: crl.pem in DIR is made or added to, for --tls-crl
    Revoke {
        /// Where the CA and the certificate are
        dir: PathBuf,
        /// Name of the node
        name: String,
    },
}
