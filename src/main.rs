//! `qod-agent`: arguments, logger, runtime and signals.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use log::LevelFilter;
use qod_agent::config::{self, Config};
use qod_agent::enrol::{self, Step};
use qod_agent::run;
use qod_agent::status::{self, Form};

const USAGE: &str = "\
usage: qod-agent run [--config FILE]
       qod-agent status [--json] [--config FILE]
       qod-agent enrol [--rotate] [--config FILE]
       qod-agent --version

FILE is /etc/qod-agent/config.json unless given.
Exit status: 0 good, 1 failed, 2 wrong usage or configuration.";

/// Wrong usage or configuration.
const WRONG_USAGE: u8 = 2;

enum Command {
    Run,
    Status(Form),
    Enrol(Step),
    Version,
}

fn main() -> ExitCode {
    let (command, path) = match parse(std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("qod-agent: {error}\n{USAGE}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    if let Command::Version = command {
        return print(concat!("qod-agent ", env!("CARGO_PKG_VERSION"), "\n"));
    }
    let config = match Config::read(&path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("qod-agent: {error}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let result = match command {
        Command::Version => Ok(String::new()),
        Command::Run => {
            start_logger();
            run::run(&config)
                .map(|()| String::new())
                .map_err(|error| error.to_string())
        }
        Command::Status(form) => {
            status::show(&config.status, form).map_err(|error| error.to_string())
        }
        Command::Enrol(step) => {
            start_logger();
            match enrol::enrol(&config, step) {
                Err(error) if error.is_configuration() => {
                    eprintln!("qod-agent: {error}");
                    return ExitCode::from(WRONG_USAGE);
                }
                result => result.map_err(|error| error.to_string()),
            }
        }
    };
    match result {
        Ok(text) => print(&text),
        Err(error) => {
            eprintln!("qod-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_logger() {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        // At trace it dumps requests with their credentials.
        .filter_module("ureq", LevelFilter::Debug)
        .filter_module("ureq_proto", LevelFilter::Debug)
        .init();
}

/// Whoever reads may have gone, as `head` does: that is no failure of this program's.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("qod-agent: writing the output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<(Command, PathBuf), String> {
    let mut path = PathBuf::from(config::DEFAULT_PATH);
    let first = arguments.next().ok_or("a command is missing")?;
    let mut command = match first.to_str() {
        Some("run") => Command::Run,
        Some("status") => Command::Status(Form::Table),
        Some("enrol") => Command::Enrol(Step::First),
        Some("--version" | "-V") => Command::Version,
        _ => return Err(format!("{first:?} is not a command")),
    };
    while let Some(argument) = arguments.next() {
        match (argument.to_str(), &mut command) {
            (Some("--config"), _) => path = arguments.next().ok_or("--config needs a file")?.into(),
            (Some("--json"), Command::Status(form)) => *form = Form::Json,
            (Some("--rotate"), Command::Enrol(step)) => *step = Step::Rotate,
            _ => return Err(format!("{argument:?} is not an argument of this command")),
        }
    }
    Ok((command, path))
}
