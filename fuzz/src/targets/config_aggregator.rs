//! Settings and tokens of the aggregator.

use crate::{Target, place};

/// They are understood, or it is said what is wrong.
pub const TARGET: Target = Target {
    name: "config_aggregator",
    about: "the aggregator's config file, tokens included",
    run: |data| aggregator::fuzzing::settings(place(), data),
    seeds: || {
        let files = "tls-client-ca = \"ca\"\ntls-cert = \"c\"\ntls-key = \"k\"\n";
        let more = [
            "",
            "grpc-listen = \"[::]:7443\"\nhttp-listen = \"0.0.0.0:1\"\nhttp-insecure = true\n",
            "expected-node = [\"a\", \"b-1.c\"]\ntrust-domain = \"weft.local\"\nlog = \"info,a=debug\"\n",
            "history-max-bytes = \"500MB\"\ndata-dir = \"/x\"\nservice-graph-metrics = \"off\"\n",
            "http-tls-cert = \"c\"\nhttp-tls-key = \"k\"\nhttp-client-ca = \"ca\"\nhttp-listen = \"[::]:1\"\n",
        ];
        let token = "[[http-tokens]]\nname = \"g\"\nsha256 = \"00\"\nrole = \"read\"\nnamespaces = [\"shop\"]\n";
        let token = token.replace("00", &"0a".repeat(32));
        let mut seeds: Vec<_> = more.map(|more| format!("{files}{more}").into_bytes()).into();
        seeds.push(format!("{files}{token}").into_bytes());
        seeds
    },
    longest: 2048,
};
