//! weft-traffic: a peer that does what JSON lines on its standard input say and answers
//! each with a line on its standard output. It ends when its input does.
#![forbid(unsafe_code)]

use std::{
    io::{self, Write, stdin, stdout},
    process::ExitCode,
};

use testbed::traffic::Actor;

const HELP: &str = "\
usage: weft-traffic < commands > answers

Reads one command per line, such as
  {\"do\":\"listen\",\"address\":\"127.0.0.1:8080\"}
  {\"do\":\"burst\",\"target\":\"127.0.0.1:8080\",\"connections\":10,\"requests\":2,
   \"request_bytes\":100,\"response_bytes\":1000,\"ending\":\"client_closes\"}
  {\"do\":\"report\"}
(each on one line) and answers each with one line of JSON. Ends with its input.
";

fn main() -> ExitCode {
    let result = if std::env::args_os().len() > 1 {
        stdout().write_all(HELP.as_bytes())
    } else {
        Actor::default().run(stdin().lock(), stdout().lock())
    };
    match result {
        // Whoever listened has gone: no reason to complain.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "weft-traffic: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
