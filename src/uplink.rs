//! The tasks that talk to the backend: one holds the long poll, one sends reports. Each blocking call
//! has a thread of its own, and each task waits by itself after an error.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use log::Level;
use qod_wire::{Status, Warning};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::backend::{Client, Failure, Poll, RawInstructions};
use crate::backoff::Backoff;
use crate::config::{Config, Error};

const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After 401, 403 and 404: somebody must do something first.
const LONGEST_WAIT_UNAUTHORIZED: Duration = Duration::from_secs(600);
const WAIT_DECOMMISSIONED: Duration = Duration::from_secs(3600);

/// What the poll brought.
pub enum News {
    /// A new desired state, read at that boot time.
    Instructions(RawInstructions, Duration),
    /// The agent is decommissioned: everything of its own is to be removed.
    Decommissioned,
    /// What hinders the polls now; `None`: nothing any more.
    Trouble(Option<Warning>),
}

/// The client, made anew when credential files are read again.
pub struct Uplink {
    config: Config,
    client: RwLock<Arc<Client>>,
    /// A poll got through after one that did not.
    answers_again: Notify,
}

/// What the polls so far have left.
#[derive(Default)]
struct Known {
    tag: Option<String>,
    backoff: Backoff,
    trouble: Option<String>,
}

impl Uplink {
    /// Reads the credential files; nothing is sent yet.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn new(config: &Config) -> Result<Arc<Self>, Error> {
        let client = RwLock::new(Arc::new(Client::new(config)?));
        Ok(Arc::new(Self {
            config: config.clone(),
            client,
            answers_again: Notify::new(),
        }))
    }

    /// Ends every call that is under way.
    pub fn shutdown(&self) {
        self.client().shutdown();
    }

    fn client(&self) -> Arc<Client> {
        // Nothing panics with the lock held; if it did, the value would still be whole.
        self.client
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn reload(&self) {
        match Client::new(&self.config) {
            Ok(client) => {
                let mut held = self
                    .client
                    .write()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                *held = Arc::new(client);
            }
            Err(error) => log::warn!("reading the credentials again: {error}"),
        }
    }

    /// Polls until nobody listens any more.
    pub async fn poll(self: Arc<Self>, news: mpsc::Sender<News>) {
        let mut known = Known::default();
        while let Some(pause) = self.poll_once(&mut known, &news).await {
            sleep(pause).await;
        }
    }

    /// One poll; the time to wait until the next one, or nothing when nobody listens any more.
    async fn poll_once(&self, known: &mut Known, news: &mpsc::Sender<News>) -> Option<Duration> {
        let wait = self.config.poll_wait;
        let asked = Instant::now();
        let (client, tag) = (self.client(), known.tag.clone());
        let result = blocking(move || client.poll(tag.as_deref(), wait)).await;
        let answered_early = asked.elapsed() < wait / 2 || wait.is_zero();
        let pause = match result {
            Ok(Poll::Changed {
                instructions,
                tag,
                read_at,
            }) => {
                let known_already = known.tag.replace(tag.clone()) == Some(tag);
                let news = news.send(News::Instructions(instructions, read_at));
                news.await.ok()?;
                // Nor must one that does not honour the tag.
                if known_already && answered_early {
                    known.backoff.next(LONGEST_WAIT)
                } else {
                    known.backoff.reset();
                    Duration::ZERO
                }
            }
            // A backend that does not hold the poll must not be asked in a circle.
            Ok(Poll::Unchanged) if answered_early => known.backoff.next(LONGEST_WAIT),
            Ok(Poll::Unchanged) => {
                known.backoff.reset();
                Duration::ZERO
            }
            Err(failure) => {
                let pause = self.after(&failure, &mut known.backoff);
                // One warning for a trouble, however long it lasts.
                let text = failure.to_string();
                let again = known.trouble.as_ref() == Some(&text);
                let level = if again { Level::Debug } else { Level::Warn };
                log::log!(
                    level,
                    "{text}; asking again in {:.1} s",
                    pause.as_secs_f64()
                );
                known.trouble = Some(text);
                let told = match failure {
                    Failure::Gone => {
                        // What is removed must come whole if the agent is taken back.
                        known.tag = None;
                        News::Decommissioned
                    }
                    failure => News::Trouble(Some(warning(&failure))),
                };
                news.send(told).await.ok()?;
                return Some(pause);
            }
        };
        if known.trouble.take().is_some() {
            log::info!("the backend answers again");
            self.answers_again.notify_waiters();
            news.send(News::Trouble(None)).await.ok()?;
        }
        Some(pause)
    }

    /// Sends the newest report whenever there is a new one; while that fails, older ones are dropped.
    pub async fn report(self: Arc<Self>, mut reports: watch::Receiver<Option<Arc<Status>>>) {
        let mut backoff = Backoff::default();
        while reports.changed().await.is_ok() {
            let mut level = Level::Warn;
            loop {
                let Some(status) = reports.borrow_and_update().clone() else {
                    break;
                };
                let client = self.client();
                let failure = match blocking(move || client.report(&status)).await {
                    Ok(()) => break,
                    Err(failure) => failure,
                };
                if let Failure::ReportRefused(_) = failure {
                    log::warn!("{failure}");
                    break;
                }
                let pause = self.after(&failure, &mut backoff);
                log::log!(
                    level,
                    "reporting: {failure}; again in {:.1} s",
                    pause.as_secs_f64()
                );
                level = Level::Debug;
                // An application waits for the report: it goes out as soon as the polls get through.
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.answers_again.notified() => {}
                }
            }
            backoff.reset();
        }
    }

    /// Time to wait after a failure; credentials that were refused are read again meanwhile.
    fn after(&self, failure: &Failure, backoff: &mut Backoff) -> Duration {
        match failure {
            Failure::Unauthorized(_) => {
                self.reload();
                backoff.next(LONGEST_WAIT_UNAUTHORIZED)
            }
            Failure::Gone => WAIT_DECOMMISSIONED,
            Failure::Unreachable {
                retry_after: Some(time),
                ..
            } => (*time).max(backoff.next(LONGEST_WAIT)),
            _ => backoff.next(LONGEST_WAIT),
        }
    }
}

fn warning(failure: &Failure) -> Warning {
    let code = match failure {
        Failure::BadInstructions(_) => "BAD_INSTRUCTIONS",
        Failure::Unauthorized(_) => "UNAUTHORIZED",
        Failure::Clock(_) => "CLOCK",
        Failure::Gone | Failure::ReportRefused(_) | Failure::Unreachable { .. } => {
            "BACKEND_UNREACHABLE"
        }
    };
    Warning::new(code, failure)
}

/// Runs a blocking call on a thread.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = |error| Failure::Unreachable {
        what: format!("the call ended before its time: {error}"),
        retry_after: None,
    };
    tokio::task::spawn_blocking(call)
        .await
        .unwrap_or_else(|error| Err(ended(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    /// Answers one request after the other with these, and returns their heads.
    fn server(answers: &'static [&'static str]) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let serve = |answer: &&str| {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<_> = lines
                    .map(|line| line.unwrap().to_lowercase())
                    .take_while(|line| !line.is_empty())
                    .collect();
                stream.write_all(answer.as_bytes()).unwrap();
                head.join("\n")
            };
            answers.iter().map(serve).collect()
        });
        (url, thread)
    }

    /// Polls once for each answer: what was asked, and how long the agent would wait after each.
    fn poll(answers: &'static [&'static str]) -> (Vec<String>, Vec<Duration>) {
        let (url, server) = server(answers);
        let file = std::env::temp_dir().join(format!("qod-uplink-{}.json", url.replace('/', "")));
        let config = format!(
            r#"{{ "agentId": "a", "lan": ["lan"],
                 "backend": {{ "url": "{url}", "token": "t", "allowPlainHttp": true }} }}"#
        );
        std::fs::write(&file, config).unwrap();
        let uplink = Uplink::new(&Config::read(&file).unwrap()).unwrap();
        std::fs::remove_file(&file).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let pauses = runtime.block_on(async {
            let (tell, _news) = mpsc::channel(16);
            let mut known = Known::default();
            let mut pauses = Vec::new();
            for _ in answers {
                pauses.push(uplink.poll_once(&mut known, &tell).await.unwrap());
            }
            pauses
        });
        (server.join().unwrap(), pauses)
    }

    const STATE: &str = "HTTP/1.1 200 OK\r\nETag: \"7\"\r\nContent-Length: 28\r\n\
                         Connection: close\r\n\r\n{\"revision\":7,\"sessions\":[]}";
    const GONE: &str = "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

    #[test]
    fn an_agent_that_is_taken_back_asks_for_everything() {
        let (asked, pauses) = poll(&[STATE, GONE, STATE]);
        assert!(!asked[0].contains("if-none-match"));
        assert!(asked[1].contains("if-none-match: \"7\""));
        assert!(!asked[2].contains("if-none-match"), "{}", asked[2]);
        assert_eq!(pauses[0], Duration::ZERO);
        assert_eq!(pauses[1], WAIT_DECOMMISSIONED);
    }

    #[test]
    fn a_backend_that_does_not_honour_the_tag_is_not_asked_in_a_circle() {
        let (_, pauses) = poll(&[STATE, STATE, STATE]);
        assert_eq!(pauses[0], Duration::ZERO);
        assert!(pauses[1] > Duration::ZERO && pauses[2] > Duration::ZERO);
    }
}
