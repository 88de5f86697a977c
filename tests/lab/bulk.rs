//! Many TCP flows that send as much as they can.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::netns::Netns;
use super::send;

const TICK: Duration = Duration::from_millis(100);

/// Accepts flows and throws away what they carry, until dropped.
pub struct Sink {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    pub fn start(netns: &Netns, at: SocketAddr) -> Self {
        let listener = netns.run(|| send::tcp_listen(at, 0));
        let stop = Arc::new(AtomicBool::new(false));
        let bytes = Arc::new(AtomicU64::new(0));
        let thread = {
            let (stop, bytes) = (Arc::clone(&stop), Arc::clone(&bytes));
            thread::spawn(move || accept(&listener, &stop, &bytes))
        };
        Self {
            stop,
            bytes,
            thread: Some(thread),
        }
    }

    /// Bytes that have arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bits per second that arrive in `time`.
    pub fn rate(&self, time: Duration) -> f64 {
        let (start, before) = (Instant::now(), self.bytes());
        thread::sleep(time);
        (self.bytes() - before) as f64 * 8.0 / start.elapsed().as_secs_f64()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts in the calling thread's namespace, for ever.
pub fn sink_here(at: SocketAddr) {
    accept(
        &send::tcp_listen(at, 0),
        &AtomicBool::new(false),
        &AtomicU64::new(0),
    );
}

fn accept(listener: &TcpListener, stop: &AtomicBool, bytes: &AtomicU64) {
    listener.set_nonblocking(true).unwrap();
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    scope.spawn(move || swallow(stream, stop, bytes));
                }
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    });
}

fn swallow(mut stream: TcpStream, stop: &AtomicBool, bytes: &AtomicU64) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(TICK)).unwrap();
    let mut buffer = vec![0; 1 << 18];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                bytes.fetch_add(n as u64, Ordering::Relaxed);
            }
            Err(e) if is_timeout(e.kind()) => {}
            Err(_) => break,
        }
    }
}

/// Flows that send until dropped.
pub struct Bulk {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Bulk {
    /// Connects `flows` flows; all are established when this returns.
    pub fn start(netns: &Netns, from: IpAddr, to: SocketAddr, flows: usize) -> Self {
        let streams = netns.run(|| connect(from, to, flows));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = streams
            .into_iter()
            .map(|stream| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || send_until(stream, &stop))
            })
            .collect();
        Self { stop, threads }
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Sends from the calling thread's namespace for `time`.
pub fn bulk_here(from: IpAddr, to: SocketAddr, flows: usize, time: Duration) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for stream in connect(from, to, flows) {
            scope.spawn(|| send_until(stream, &stop));
        }
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
}

fn connect(from: IpAddr, to: SocketAddr, flows: usize) -> Vec<TcpStream> {
    (0..flows)
        .map(|_| {
            let stream = send::tcp_connect(SocketAddr::new(from, 0), to, 0)
                .unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
            // What most devices use: it fills buffers. The machine's own choice may spare them.
            setsockopt(&stream, sockopt::TcpCongestion, &"cubic".into())
                .unwrap_or_else(|e| panic!("TCP's cubic: {e}"));
            stream
        })
        .collect()
}

fn send_until(mut stream: TcpStream, stop: &AtomicBool) {
    stream.set_write_timeout(Some(TICK)).unwrap();
    let block = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        match stream.write(&block) {
            Ok(_) => {}
            Err(e) if is_timeout(e.kind()) => {}
            Err(_) => break,
        }
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
