//! Makes the document that clients get: one for all who wait for it, and not more often than the agent
//! can bear.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::Request;

/// At most one document in this time: for each the kernel's maps are read (20 ms with 1,000 sessions).
const PACE: Duration = Duration::from_millis(100);

/// A document as it goes out. None: the agent gives none.
type Document = Option<Arc<[u8]>>;

/// Where clients wait for a document.
#[derive(Clone)]
pub(super) struct Answers(mpsc::Sender<oneshot::Sender<Document>>);

impl Answers {
    /// Begins to make them, for so many clients at a time.
    pub(super) fn new(agent: mpsc::Sender<Request>, clients: usize) -> Self {
        let (sender, waiting) = mpsc::channel(clients);
        tokio::spawn(make(waiting, agent));
        Self(sender)
    }

    /// A document that was made after this call.
    pub(super) async fn next(&self) -> Document {
        let (sender, document) = oneshot::channel();
        self.0.send(sender).await.ok()?;
        document.await.ok()?
    }
}

async fn make(
    mut waiting: mpsc::Receiver<oneshot::Sender<Document>>,
    agent: mpsc::Sender<Request>,
) {
    let mut earliest = Instant::now();
    while let Some(first) = waiting.recv().await {
        sleep_until(earliest).await;
        let mut clients = vec![first];
        while let Ok(client) = waiting.try_recv() {
            clients.push(client);
        }
        clients.retain(|client| !client.is_closed());
        if clients.is_empty() {
            continue;
        }
        let document = ask(&agent).await;
        for client in clients {
            // It may have gone meanwhile.
            let _ = client.send(document.clone());
        }
        earliest = Instant::now() + PACE;
    }
}

async fn ask(agent: &mpsc::Sender<Request>) -> Document {
    let (request, answer) = oneshot::channel();
    agent.send(request).await.ok()?;
    let status = answer.await.ok()?;
    serde_json::to_vec(&status).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qod_wire::Status;

    #[tokio::test]
    async fn who_waits_together_gets_one_document() {
        let (agent, mut requests) = mpsc::channel::<Request>(1);
        let answers = Answers::new(agent, 8);
        let made = tokio::spawn(async move {
            let mut made = 0;
            while let Some(request) = requests.recv().await {
                made += 1;
                let status = Status {
                    sequence: made,
                    ..Status::default()
                };
                let _ = request.send(status);
            }
            made
        });
        let start = Instant::now();
        let first = answers.next().await.unwrap();
        assert!(String::from_utf8_lossy(&first).contains("\"sequence\":1"));
        let (second, third) = tokio::join!(answers.next(), answers.next());
        assert_eq!(second, third);
        assert!(start.elapsed() >= PACE);
        drop(answers);
        assert_eq!(made.await.unwrap(), 2);
    }

    #[tokio::test]
    async fn an_agent_that_has_gone_gives_none() {
        let (agent, requests) = mpsc::channel::<Request>(1);
        drop(requests);
        assert_eq!(Answers::new(agent, 8).next().await, None);
    }
}
