//! The laboratory as a program, for the scripts: `cargo run --example qod-lab -- help`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program for the scripts of this repository: a wrong call must end it loudly"
)]

#[path = "mod.rs"]
mod lab;

use std::collections::HashMap;
use std::env;
use std::fmt::Display;
use std::fs;
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::exit;
use std::str::FromStr;
use std::time::Duration;

use lab::certificate::Certificates;
use lab::console::Fault;
use lab::delay::{self, Probe};
use lab::flood::{self, Flood};
use lab::folder::Folder;
use lab::home::Router;
use lab::{Capture, Console, Home, Modem, Netns, bulk, kernel, netns, send};
use serde_json::json;

const HELP: &str = "qod-lab COMMAND [--flag value]...

The home (from outside of it):
  up    --group NAME [--modem-kbit 21000] [--modem-bytes 1000000] [--modem no] [--machine yes]
          makes the namespaces NAME.phone .laptop .router .modem .internet; NAME is qodPID.N; with a
          machine, there is NAME.machine instead of the router, with the taps `lan` and `wan` for QEMU
  down  --group NAME                  deletes them
  rate  --group NAME --from A:P --to A:P [--ms 500] [--cpu 0] [--receiver internet]
          floods from the phone and counts in the internet or at the laptop: packets/s as JSON
  kernel                              what this kernel can do, as JSON
  certificates --folder F --name N    ca.pem, server.pem, server.key

A machine's serial console (QEMU's -chardev socket,server=on,wait=off,path=SOCKET):
  console-ready --at SOCKET [--seconds 120]
          waits for a shell there
  console --at SOCKET [--seconds 30] [--bytes 1000000] -- COMMAND
          runs a command in a shell of its own there, prints its output, and ends with its status;
          124: no answer in time, 125: more than so many bytes, or no console

Inside a namespace (ip netns exec NAME.phone qod-lab ...):
  echo    --at A:P                    answers UDP, for ever
  rtt     --from A:P --to A:P [--count 100] [--interval-ms 10] [--length 100] [--tos 0]
          round-trip times in microseconds as JSON
  sink    --at A:P                    accepts TCP, for ever
  bulk    --from A --to A:P [--flows 8] [--seconds 5]
  flood   --from A:P --to A:P [--ms 500] [--cpu 0]       packets/s that were sent
  count   --device D [--ms 500]                          packets/s that arrive
  send    --from A:P --to A:P [--proto udp|tcp|ping] [--tos 0] [--length 32] [--count 1]
  capture --netns NAME --device D [--seconds 1]          one line per packet
";

fn main() {
    let mut words = env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let flags = Flags::read(words.by_ref().take_while(|word| word != "--"));
    match command.as_str() {
        "up" => up(&flags),
        "down" => netns::delete_group(flags.text("group")),
        "rate" => rate(&flags),
        "kernel" => print_kernel(),
        "certificates" => certificates(&flags),
        "console" => console(&flags, &words.collect::<Vec<_>>().join(" ")),
        "console-ready" => {
            let done = connect(&flags, 120.0).and_then(|mut console| console.wait_for_shell());
            done.unwrap_or_else(|fault| no_answer(&fault));
        }
        "echo" => delay::echo_here(flags.get("at")),
        "rtt" => rtt(&flags),
        "sink" => bulk::sink_here(flags.get("at")),
        "bulk" => bulk::bulk_here(
            flags.get("from"),
            flags.get("to"),
            flags.get_or("flows", 8),
            Duration::from_secs_f64(flags.get_or("seconds", 5.0)),
        ),
        "flood" => println!("{:.0}", flags.flood().send_here(flags.time()).rate),
        "count" => println!(
            "{:.0}",
            flood::count_here(flags.text("device"), flags.time())
        ),
        "send" => send_packets(&flags),
        "capture" => capture(&flags),
        "help" | "--help" => print!("{HELP}"),
        _ => usage(&format!("no command {command:?}")),
    }
}

/// `--name value` pairs.
struct Flags(HashMap<String, String>);

impl Flags {
    fn read(mut words: impl Iterator<Item = String>) -> Self {
        let mut flags = HashMap::new();
        while let Some(word) = words.next() {
            let Some((name, value)) = word.strip_prefix("--").zip(words.next()) else {
                usage(&format!("{word:?} is not a flag with a value"));
            };
            flags.insert(name.to_owned(), value);
        }
        Self(flags)
    }

    fn text(&self, name: &str) -> &str {
        match self.0.get(name) {
            Some(value) => value,
            None => usage(&format!("--{name} is missing")),
        }
    }

    fn get<T: FromStr<Err: Display>>(&self, name: &str) -> T {
        self.text(name)
            .parse()
            .unwrap_or_else(|e| usage(&format!("--{name}: {e}")))
    }

    fn get_or<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> T {
        if self.0.contains_key(name) {
            self.get(name)
        } else {
            default
        }
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.get_or("ms", 500))
    }

    fn flood(&self) -> Flood {
        Flood {
            from: self.get("from"),
            to: self.get("to"),
            cpu: self.get_or("cpu", 0),
        }
    }
}

fn usage(message: &str) -> ! {
    eprintln!("qod-lab: {message}\n\n{HELP}");
    exit(2);
}

fn up(flags: &Flags) {
    let default = Modem::default();
    let modem = (flags.get_or("modem", String::new()) != "no").then(|| Modem {
        upstream_kbit: flags.get_or("modem-kbit", default.upstream_kbit),
        buffer_bytes: flags.get_or("modem-bytes", default.buffer_bytes),
    });
    let router = match flags.get_or("machine", String::new()).as_str() {
        "yes" => Router::Machine,
        _ => Router::Namespace,
    };
    Home::build(flags.text("group"), modem, router).keep();
}

fn connect(flags: &Flags, seconds: f64) -> Result<Console, Fault> {
    let limit = Duration::from_secs_f64(flags.get_or("seconds", seconds));
    Console::connect(
        flags.text("at").as_ref(),
        limit,
        flags.get_or("bytes", 1_000_000),
    )
}

fn console(flags: &Flags, command: &str) -> ! {
    let answer = connect(flags, 30.0)
        .and_then(|mut console| console.run(command))
        .unwrap_or_else(|fault| no_answer(&fault));
    print!("{}", answer.output);
    let _ = stdout().flush();
    exit(answer.status.into());
}

fn no_answer(fault: &Fault) -> ! {
    eprintln!("qod-lab: {fault}");
    let (seen, status) = match fault {
        Fault::Late(seen) => (seen.as_str(), 124),
        Fault::TooLong(seen) => (seen.as_str(), 125),
        Fault::Closed(_) => ("", 125),
    };
    // The end tells most.
    let early = seen.lines().count().saturating_sub(20);
    for line in seen.lines().skip(early) {
        eprintln!("console: {}", line.escape_debug());
    }
    exit(status);
}

fn rate(flags: &Flags) {
    let home = Home::existing(flags.text("group"));
    home.without_segmentation_offload();
    flood::steer(&home.router, "lan1", 1);
    let flood = flags.flood();
    let receiver = match flags.get_or("receiver", "internet".to_owned()).as_str() {
        "internet" => &home.internet,
        "laptop" => &home.laptop,
        other => usage(&format!("--receiver {other}")),
    };
    flood::drop_at(receiver, "eth0", flood.to.port());
    let (sent, arrived) = flood.rate(&home.phone, receiver, "eth0", flags.time());
    println!(
        "{}",
        json!({ "sent_pps": sent.rate, "held": sent.held, "arrived_pps": arrived })
    );
    home.keep();
}

fn print_kernel() {
    let mut found = serde_json::Map::new();
    found.insert("netdev_egress".into(), kernel::has_netdev_egress().into());
    found.insert("nat".into(), kernel::has_nat().into());
    found.insert("flowtable".into(), kernel::has_flowtable().into());
    for kind in kernel::QDISCS {
        found.insert(kind.into(), kernel::has_qdisc(kind).into());
    }
    println!("{}", serde_json::Value::from(found));
}

fn certificates(flags: &Flags) {
    let made = Folder::new();
    let target: PathBuf = flags.get("folder");
    let files = Certificates::new(&made, &[flags.text("name")]);
    for file in [&files.ca, &files.cert, &files.key] {
        fs::copy(file, target.join(file.file_name().unwrap())).unwrap();
    }
}

fn rtt(flags: &Flags) {
    let probe = Probe {
        tos: flags.get_or("tos", 0),
        count: flags.get_or("count", 100),
        interval: Duration::from_millis(flags.get_or("interval-ms", 10)),
        length: flags.get_or("length", 100),
        ..Probe::new(flags.get("from"), flags.get("to"))
    };
    println!("{}", probe.run_here().json());
}

fn send_packets(flags: &Flags) {
    let (from, to): (SocketAddr, SocketAddr) = (flags.get("from"), flags.get("to"));
    let tos = flags.get_or("tos", 0);
    let payload = vec![b'.'; flags.get_or("length", 32)];
    for _ in 0..flags.get_or("count", 1) {
        match flags.get_or("proto", "udp".to_owned()).as_str() {
            "udp" => send::udp(from, to, tos, &payload),
            "tcp" => {
                let mut stream = send::tcp_connect(from, to, tos).unwrap();
                stream.write_all(&payload).unwrap();
            }
            "ping" => send::ping(from.ip(), to.ip(), tos, &payload),
            other => usage(&format!("--proto {other}")),
        }
    }
}

fn capture(flags: &Flags) {
    let netns = Netns::existing(flags.text("netns"));
    let capture = Capture::start(&netns, flags.text("device"));
    println!("ready");
    let time = Duration::from_secs_f64(flags.get_or("seconds", 1.0));
    let _ = stdout().flush();
    capture.wait_for(time, |packet| {
        println!("{packet}");
        false
    });
}
