//! Command line of the operator backend.

mod serve;

use std::io::Write as _;
use std::process::ExitCode;

use qod_backend::command;

const USAGE: &str = "\
usage: qod-backend serve [--config FILE]
       qod-backend COMMAND …
       qod-backend help
       qod-backend --version

serve is the backend itself. Without a file it listens on 127.0.0.1:8080 and keeps qod-backend.sqlite in the working
directory. RUST_LOG sets what is logged, as in RUST_LOG=debug.
";

/// Exit status for wrong usage or configuration.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let arguments: Option<Vec<&str>> = arguments.iter().map(|argument| argument.to_str()).collect();
    let Some(arguments) = arguments else {
        eprintln!("qod-backend: an argument is not UTF-8");
        return ExitCode::from(WRONG);
    };
    match arguments.as_slice() {
        ["serve"] => serve::run(None),
        ["serve", "--config", file] => serve::run(Some(file)),
        ["--version"] => {
            println!("qod-backend {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["help", ..] => help(),
        asked if asks_for_help(asked) => help(),
        [] | ["serve", ..] => {
            eprint!("{USAGE}");
            ExitCode::from(WRONG)
        }
        asked => carry(asked),
    }
}

fn asks_for_help(arguments: &[&str]) -> bool {
    let mut options = arguments.iter().take_while(|argument| **argument != "--");
    options.any(|option| matches!(*option, "--help" | "-h"))
}

fn help() -> ExitCode {
    // Who reads the beginning only has seen what he wanted.
    let _ = write!(std::io::stdout(), "{USAGE}\n{}", command::usage());
    ExitCode::SUCCESS
}

/// An operator's command to a running backend.
fn carry(arguments: &[&str]) -> ExitCode {
    match command::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qod-backend: {}", error.to_string().trim_end());
            if error.is_usage() {
                ExitCode::from(WRONG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
