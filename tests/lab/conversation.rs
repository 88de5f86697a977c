//! One connection of a script: HTTP read and written, with or without TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::script::{Answer, Call, Reply, Shared, Then};

/// Serves one connection until it ends.
pub(super) fn hold(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    shared: &Shared,
) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    stream.set_nodelay(true).ok()?;
    let ending = stream.try_clone().ok()?;
    let _ = match tls {
        None => serve(stream, shared),
        Some(config) => {
            let connection = ServerConnection::new(config).ok()?;
            serve(StreamOwned::new(connection, stream), shared)
        }
    };
    // The script holds a copy of it, so that it would stay open.
    ending.shutdown(Shutdown::Both).ok()
}

/// One connection, call after call. The first error ends it.
fn serve(stream: impl Read + Write, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let call = read(&mut reader)?;
        let (pieces, then) = match shared.answer(&call) {
            Answer::Reply(reply) => (vec![(Duration::ZERO, encode(&reply))], Then::Listen),
            Answer::Bytes(pieces, then) => (pieces, then),
        };
        for (pause, bytes) in pieces {
            thread::sleep(pause);
            reader.get_mut().write_all(&bytes).ok()?;
            reader.get_mut().flush().ok()?;
        }
        match then {
            Then::Listen => {}
            Then::Close => return None,
            Then::Hang => shared.wait_stopped(),
        }
    }
}

fn encode(reply: &Reply) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} .\r\n", reply.status);
    if !reply.tag.is_empty() {
        head += &format!("ETag: \"{}\"\r\n", reply.tag);
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let has_body = !matches!(reply.status, 204 | 304);
    if has_body {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    let mut bytes = (head + "\r\n").into_bytes();
    if has_body {
        bytes.extend_from_slice(&reply.body);
    }
    bytes
}

fn read(reader: &mut impl BufRead) -> Option<Call> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut call = Call {
        method,
        path,
        headers,
        body: Vec::new(),
        at: Instant::now(),
    };
    if let Some(length) = call.header("content-length") {
        call.body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut call.body).ok()?;
    } else if call.header("transfer-encoding") == Some("chunked") {
        call.body = read_chunks(reader)?;
    }
    Some(call)
}

fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).ok()?;
        if length == 0 {
            return Some(body);
        }
        chunk.truncate(length);
        body.append(&mut chunk);
    }
}
