//! `qod-agent`: arguments, logger, runtime and signals.

use std::path::PathBuf;
use std::process::ExitCode;

use qod_agent::config::{self, Config};
use qod_agent::run;
use qod_agent::status::{self, Form};

const USAGE: &str = "\
usage: qod-agent run [--config FILE]
       qod-agent status [--json] [--config FILE]
       qod-agent --version

FILE is /etc/qod-agent/config.json unless given.
Exit status: 0 good, 1 failed, 2 wrong usage or configuration.";

/// Wrong usage or configuration.
const WRONG_USAGE: u8 = 2;

enum Command {
    Run,
    Status(Form),
    Version,
}

fn main() -> ExitCode {
    let (command, path) = match parse(std::env::args().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("qod-agent: {error}\n{USAGE}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    if let Command::Version = command {
        println!("qod-agent {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let config = match Config::read(&path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("qod-agent: {error}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let result = match command {
        Command::Version => Ok(()),
        Command::Run => {
            env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
                .init();
            run::run(&config).map_err(|error| error.to_string())
        }
        Command::Status(form) => status::show(&config.status, form)
            .map(|text| print!("{text}"))
            .map_err(|error| error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qod-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Command, PathBuf), String> {
    let mut path = PathBuf::from(config::DEFAULT_PATH);
    let mut command = match arguments.next().as_deref() {
        Some("run") => Command::Run,
        Some("status") => Command::Status(Form::Table),
        Some("--version" | "-V") => Command::Version,
        Some(other) => return Err(format!("{other:?} is not a command")),
        None => return Err("a command is missing".to_owned()),
    };
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), &mut command) {
            ("--config", _) => path = arguments.next().ok_or("--config needs a file")?.into(),
            ("--json", Command::Status(form)) => *form = Form::Json,
            (other, _) => return Err(format!("{other:?} is not an argument of this command")),
        }
    }
    Ok((command, path))
}
