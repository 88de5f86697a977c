//! Command line of the operator backend.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use qod_backend::backend::{Backend, StartError};
use qod_backend::clock::Clock;
use qod_backend::command;
use qod_backend::config::Config;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

const USAGE: &str = "\
usage: qod-backend serve [--config FILE]
       qod-backend COMMAND …
       qod-backend help
       qod-backend --version

serve is the backend itself. Without a file it listens on 127.0.0.1:8080 and keeps qod-backend.sqlite in the working
directory. RUST_LOG sets what is logged, as in RUST_LOG=debug.
";

/// Wrong usage or configuration.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let arguments: Option<Vec<&str>> = arguments.iter().map(|argument| argument.to_str()).collect();
    let Some(arguments) = arguments else {
        eprintln!("qod-backend: an argument is not UTF-8");
        return ExitCode::from(WRONG);
    };
    let config = match arguments.as_slice() {
        ["serve"] => Ok(Config::default()),
        ["serve", "--config", file] => Config::load(Path::new(file)),
        ["--version"] => {
            println!("qod-backend {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        ["help", ..] => return help(),
        asked if asks_for_help(asked) => return help(),
        [] | ["serve", ..] => {
            eprint!("{USAGE}");
            return ExitCode::from(WRONG);
        }
        asked => return carry(asked),
    };
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            eprintln!("qod-backend: {error}");
            return ExitCode::from(WRONG);
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("qod-backend: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qod-backend: {error}");
            let wrong = error
                .downcast_ref::<StartError>()
                .is_some_and(StartError::is_configuration);
            if wrong {
                ExitCode::from(WRONG)
            } else {
                ExitCode::FAILURE
            }
        }
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

async fn serve(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let backend = Backend::start(config, Clock::system()).await?;
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    tracing::info!("ending");
    backend.stop().await;
    Ok(())
}
