//! `qod-backend serve`: the log, the limits of the process, and signals.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use qod_backend::backend::{Backend, StartError};
use qod_backend::clock::Clock;
use qod_backend::config::{Config, LogFormat};
use qod_backend::listener::MOST_CONNECTIONS;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::WRONG;

/// Files that are open beside connections: the store's, and what is on the way to other servers.
const OTHER_FILES: u64 = 500;

/// Runs until a signal ends it.
pub(crate) fn run(config: Option<&str>) -> ExitCode {
    let config = match config.map_or(Ok(Config::default()), |file| Config::load(Path::new(file))) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("qod-backend: {error}");
            return ExitCode::from(WRONG);
        }
    };
    start_log(config.operation.log_format);
    raise_open_files();
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
    let served = runtime.block_on(serve(&config));
    // Whoever asked twice for the end does not want to wait for what is still being done.
    runtime.shutdown_background();
    match served {
        Ok(code) => code,
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

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).init(),
    }
}

/// Every connection is an open file, and most systems allow 1,024 at first.
fn raise_open_files() {
    let needed = MOST_CONNECTIONS as u64 + OTHER_FILES;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < needed => {
            tracing::warn!(
                limit,
                needed,
                "open files are limited below what connections may need"
            );
        }
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

async fn serve(config: &Config) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let backend = Backend::start(config, Clock::system()).await?;
    either(&mut terminate, &mut interrupt).await;
    tracing::info!("ending");
    tokio::select! {
        () = backend.stop() => Ok(ExitCode::SUCCESS),
        () = either(&mut terminate, &mut interrupt) => {
            tracing::warn!("ended at once, by a second signal");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => (),
        _ = other.recv() => (),
    }
}
