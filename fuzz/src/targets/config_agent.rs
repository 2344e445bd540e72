//! Settings of the agent.

use crate::Target;

/// They are understood, or it is said what is wrong.
pub const TARGET: Target = Target {
    name: "config_agent",
    about: "the agent's config file",
    run: node_agent::fuzzing::settings,
    seeds: || {
        let files = "tls-ca = \"ca\"\ntls-cert = \"c\"\ntls-key = \"k\"\n";
        [
            "aggregator = \"https://a:1\"\n",
            "aggregator = [\"https://[::1]:1\", \"https://b/\"]\nnode = \"n-1.x\"\ninterval = \"500ms\"\n",
            "aggregator = \"https://a\"\nqueue-max-bytes = \"4MiB\"\nspool-dir = \"/s\"\nspool-max-bytes = \"1GiB\"\n",
            "aggregator = \"https://a\"\nmetrics-listen = \"127.0.0.1:1\"\nlog = \"warn,h2=off\"\nrecord = \"/r\"\n",
        ]
        .map(|more| format!("{files}{more}").into_bytes())
        .into()
    },
    longest: 2048,
};
