//! Carries through what the operator removes.
//!
//! Each removal runs in a task of its own: an operator who hangs up must not part what is committed from the wake-up of
//! the polls that wait for it.

use std::sync::Arc;

use crate::error_info::ErrorInfo;
use crate::server::App;
use crate::store::{HomeRemoval, StoreError};

/// Decommissions an agent. `false`: there is none.
///
/// # Errors
/// 503, 500: the store failed.
pub async fn agent(app: &Arc<App>, id: String) -> Result<bool, ErrorInfo> {
    carry(app, |app| async move {
        let now = app.clock.now_ms();
        let Some(home) = app.store.decommission_agent(&id, now).await? else {
            return Ok(false);
        };
        if let Some((home, revision)) = home {
            app.wake.raise(&home, revision);
            // What fails here is told by whoever looks next.
            if let Err(error) = app.store.tell_home(&home, &*app, now).await {
                tracing::warn!(%error, home, "changes of a home were not told yet");
            }
        }
        Ok(true)
    })
    .await
}

/// Removes a home. `false`: there is none.
///
/// # Errors
/// 503, 500: the store failed; to be asked for again.
pub async fn home(app: &Arc<App>, id: String) -> Result<bool, ErrorInfo> {
    carry(app, |app| async move {
        loop {
            match app.store.remove_home(&id, app.clock.now_ms()).await? {
                HomeRemoval::NoHome => return Ok(false),
                HomeRemoval::Begun(revision) => app.wake.raise(&id, revision),
                HomeRemoval::Done(revision) => {
                    app.wake.raise(&id, revision);
                    return Ok(true);
                }
            }
        }
    })
    .await
}

/// Removes a consumer and ends its sessions. `false`: there is none.
///
/// # Errors
/// 503, 500: the store failed. Sessions that are left then are ended by [`carry_on`].
pub async fn consumer(app: &Arc<App>, client_id: String) -> Result<bool, ErrorInfo> {
    carry(app, |app| async move {
        if !app
            .store
            .remove_consumer(&client_id, app.clock.now_ms())
            .await?
        {
            return Ok(false);
        }
        app.consumers.forget(&client_id);
        end_sessions(&app, &client_id).await?;
        Ok(true)
    })
    .await
}

/// Ends the sessions that consumers have who were removed: by a process that was cut off, or while a request of theirs
/// was under way.
///
/// # Errors
/// The store failed.
pub async fn carry_on(app: &App) -> Result<(), StoreError> {
    for client_id in app.store.removed_consumers(app.clock.now_ms()).await? {
        end_sessions(app, &client_id).await?;
    }
    Ok(())
}

async fn end_sessions(app: &App, client_id: &str) -> Result<(), StoreError> {
    loop {
        let now = app.clock.now_ms();
        let homes = app.store.homes_of_consumer(client_id, now).await?;
        if homes.is_empty() {
            return Ok(());
        }
        let mut ended = false;
        for home in homes {
            let revision = app.store.terminate_sessions(&home, client_id, now).await?;
            if let Some(revision) = revision {
                app.wake.raise(&home, revision);
                ended = true;
            }
        }
        if !ended {
            // Another process ends them.
            return Ok(());
        }
    }
}

async fn carry<F>(app: &Arc<App>, work: impl FnOnce(Arc<App>) -> F) -> Result<bool, ErrorInfo>
where
    F: Future<Output = Result<bool, StoreError>> + Send + 'static,
{
    tokio::spawn(work(app.clone()))
        .await
        .map_err(|_| ErrorInfo::internal("Internal server error"))?
        .map_err(ErrorInfo::from)
}
