//! Command line of the operator backend.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use qod_backend::backend::{Backend, StartError};
use qod_backend::clock::Clock;
use qod_backend::config::Config;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

const USAGE: &str = "\
usage: qod-backend serve [--config FILE]
       qod-backend --version

Without a file it listens on 127.0.0.1:8080 and keeps qod-backend.sqlite in the working directory.
RUST_LOG sets what is logged, as in RUST_LOG=debug.
";

/// Wrong usage or configuration.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let config = match arguments.as_slice() {
        ["serve"] => Ok(Config::default()),
        ["serve", "--config", file] => Config::load(Path::new(file)),
        ["--version"] => {
            println!("qod-backend {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        ["--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(WRONG);
        }
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
