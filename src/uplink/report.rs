//! The task that reports.

use std::sync::Arc;

use qod_wire::Status;
use tokio::sync::watch;
use tokio::time::sleep;

use super::trouble::Task;
use super::{Uplink, blocking, pause_after};
use crate::backend::Failure;
use crate::backoff::Backoff;

impl Uplink {
    /// Sends the newest report whenever there is a new one; while that fails, older ones are dropped.
    pub async fn report(self: Arc<Self>, mut reports: watch::Receiver<Option<Arc<Status>>>) {
        let mut backoff = Backoff::default();
        while reports.changed().await.is_ok() {
            loop {
                let Some(status) = reports.borrow_and_update().clone() else {
                    break;
                };
                let sequence = status.sequence;
                let client = self.client();
                let used = client.clone();
                let failure = match blocking(move || used.report(&status)).await {
                    Ok(()) => {
                        self.all_is_well(Task::Report);
                        break;
                    }
                    Err(failure) => failure,
                };
                // The way to the internet is another one, or the credentials are: this call was given up.
                if !Arc::ptr_eq(&client, &self.client()) {
                    continue;
                }
                let text = failure.to_string();
                let level = self.level(Task::Report, &text);
                if let Failure::ReportRefused(_) = failure {
                    log::log!(level, "{text}; report {sequence} is dropped");
                    break;
                }
                let pause = pause_after(&failure, &mut backoff);
                log::log!(
                    level,
                    "reporting: {text}; again in {:.1} s",
                    pause.as_secs_f64()
                );
                self.renew_credentials(Task::Report, &failure);
                // An application waits for the report: it goes out as soon as the polls get through.
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.answers_again.notified() => {}
                }
            }
            backoff.reset();
        }
    }
}
