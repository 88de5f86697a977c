//! Command line of the operator backend.

mod serve;

use std::process::ExitCode;

const USAGE: &str = "\
usage: qod-backend serve [--config FILE]
       qod-backend --version

Without a file it listens on 127.0.0.1:8080 and keeps qod-backend.sqlite in the working directory.
RUST_LOG sets what is logged, as in RUST_LOG=debug.
";

/// Exit status for wrong usage or configuration.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve"] => serve::run(None),
        ["serve", "--config", file] => serve::run(Some(file)),
        ["--version"] => {
            println!("qod-backend {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(WRONG)
        }
    }
}
