//! Names: the files that the C library asks, for one namespace alone, and a name server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::netns::Netns;

/// What `ip netns exec` shows a command instead of the machine's own.
const FOLDER: &str = "/etc/netns";

/// Files of `/etc` that commands in one namespace see; gone when dropped.
pub struct Files(PathBuf);

impl Files {
    /// Each is its name in `/etc` and its content.
    pub fn new(netns: &Netns, files: &[(&str, &str)]) -> Self {
        let folder = Self(Path::new(FOLDER).join(netns.name()));
        fs::create_dir_all(&folder.0).unwrap();
        for (name, content) in files {
            fs::write(folder.0.join(name), content).unwrap();
        }
        folder
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        // Unless others have theirs there.
        let _ = fs::remove_dir(FOLDER);
    }
}

/// Answers every question for an IPv4 address with the same one, until it is dropped.
pub struct NameServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    pub fn start(netns: &Netns, at: SocketAddr, answer: Ipv4Addr) -> Self {
        let socket = netns.run(|| UdpSocket::bind(at).unwrap());
        let tick = Some(Duration::from_millis(100));
        socket.set_read_timeout(tick).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut query = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut query) else {
                    continue;
                };
                if let Some(reply) = reply(&query[..length], answer) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// RFC 1035 §4.1. A question for another kind of record gets an answer without records.
fn reply(query: &[u8], answer: Ipv4Addr) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const A: &[u8] = &[0, 1];
    let name = query.get(HEADER..)?.iter().position(|byte| *byte == 0)? + 1;
    let end = HEADER + name + 4;
    let wants_address = query.get(HEADER + name..end - 2)? == A;
    let mut reply = query.get(..2)?.to_vec();
    // An answer, recursion desired and available; one question, no authority.
    reply.extend([0x81, 0x80, 0, 1, 0, wants_address.into(), 0, 0, 0, 0]);
    reply.extend(query.get(HEADER..end)?);
    if wants_address {
        // The name is that of the question; class IN, for a minute, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(answer.octets());
    }
    Some(reply)
}
