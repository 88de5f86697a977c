//! `qod-agent`: arguments, logger, runtime and signals.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use env_logger::Env;
use log::{Level, LevelFilter, Log, Metadata};
use qod_agent::check::{self, Verdict};
use qod_agent::config::{self, Config};
use qod_agent::enrol::{self, Step};
use qod_agent::status::{self, Form};
use qod_agent::{reset, run};

const USAGE: &str = "\
usage: qod-agent run [--config FILE]
       qod-agent status [--json] [--config FILE]
       qod-agent enrol [--rotate] [--config FILE]
       qod-agent check [--config-only] [--config FILE]
       qod-agent reset [--force]
       qod-agent --version

FILE is /etc/qod-agent/config.json unless given.
Exit status: 0 good, 1 failed, 2 wrong usage or configuration.";

/// Wrong usage or configuration.
const WRONG_USAGE: u8 = 2;

enum Command {
    Run,
    Status(Form),
    Enrol(Step),
    Check { config_only: bool },
    Reset { force: bool },
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
    match command {
        Command::Version => print(concat!("qod-agent ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Run => configured(&path, |config| {
            start_logger();
            let ended = run::run(config);
            ended.map(|()| String::new()).map_err(Failed::doing)
        }),
        Command::Status(form) => configured(&path, |config| {
            status::show(&config.status, form).map_err(Failed::doing)
        }),
        Command::Enrol(step) => configured(&path, |config| {
            start_logger();
            enrol::enrol(config, step).map_err(|error| match error.is_configuration() {
                true => Failed::Configuration(error.to_string()),
                false => Failed::Doing(error.to_string()),
            })
        }),
        Command::Check { config_only: true } => configured(&path, |_| Ok(String::new())),
        Command::Check { config_only: false } => examine(&path),
        Command::Reset { force } => finish(reset::reset(force).map_err(Failed::doing)),
    }
}

/// For commands that can do nothing without a configuration.
fn configured(path: &Path, command: impl FnOnce(&Config) -> Result<String, Failed>) -> ExitCode {
    match Config::read(path) {
        Ok(config) => finish(command(&config)),
        Err(error) => finish(Err(Failed::Configuration(error.to_string()))),
    }
}

fn examine(config: &Path) -> ExitCode {
    let diagnosis = check::check(config);
    match (print(&diagnosis.text), diagnosis.verdict) {
        (printed, Verdict::Good) => printed,
        (_, Verdict::Bad) => ExitCode::FAILURE,
        (_, Verdict::BadConfiguration) => ExitCode::from(WRONG_USAGE),
    }
}

/// Why a command has failed, in a sentence.
enum Failed {
    /// It could not do its work.
    Doing(String),
    /// What it was told is wrong.
    Configuration(String),
}

impl Failed {
    fn doing(error: impl Display) -> Self {
        Self::Doing(error.to_string())
    }
}

fn finish(result: Result<String, Failed>) -> ExitCode {
    let (error, status) = match result {
        Ok(text) => return print(&text),
        Err(Failed::Doing(error)) => (error, ExitCode::FAILURE),
        Err(Failed::Configuration(error)) => (error, ExitCode::from(WRONG_USAGE)),
    };
    eprintln!("qod-agent: {error}");
    status
}

fn start_logger() {
    let wanted = || env_logger::Builder::from_env(Env::default().default_filter_or("info"));
    let mut builder = wanted();
    let logger = wanted().build();
    for library in ["ureq", "ureq_proto"] {
        let trace = Metadata::builder()
            .target(library)
            .level(Level::Trace)
            .build();
        // There it dumps requests with their credentials. Said of no other level: what is set here
        // goes before what the environment says.
        if logger.enabled(&trace) {
            builder.filter_module(library, LevelFilter::Debug);
        }
    }
    builder.init();
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
        Some("check") => Command::Check { config_only: false },
        Some("reset") => Command::Reset { force: false },
        Some("--version" | "-V") => Command::Version,
        _ => return Err(format!("{first:?} is not a command")),
    };
    while let Some(argument) = arguments.next() {
        match (argument.to_str(), &mut command) {
            (Some("--config"), _) => path = arguments.next().ok_or("--config needs a file")?.into(),
            (Some("--json"), Command::Status(form)) => *form = Form::Json,
            (Some("--rotate"), Command::Enrol(step)) => *step = Step::Rotate,
            (Some("--config-only"), Command::Check { config_only }) => *config_only = true,
            (Some("--force"), Command::Reset { force }) => *force = true,
            _ => return Err(format!("{argument:?} is not an argument of this command")),
        }
    }
    Ok((command, path))
}
