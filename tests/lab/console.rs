//! A shell on a machine's serial console, spoken to over the socket that QEMU serves for it.
//!
//! On that line everything is mixed: the echo of what is typed, prompts, what commands print, and what the kernel
//! says at any moment, also in the middle of a line. So a command is typed in a form of which the echo cannot be
//! mistaken for its output, and its output stands between two marks that no other command has.

use std::fmt::{self, Display, Formatter};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a command printed, and its exit status.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub output: String,
    pub status: u8,
}

/// Why there is no answer, and what the console showed instead.
#[derive(Debug)]
pub enum Fault {
    Late(String),
    TooLong(String),
    Closed(io::Error),
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(_) => write!(f, "the console gave no answer in time"),
            Self::TooLong(_) => write!(f, "the console said more than was allowed"),
            Self::Closed(error) => write!(f, "the console's socket: {error}"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Closed(error)
    }
}

/// How much of a command is typed in one line: the shells of small machines take 512 bytes.
const PIECE: usize = 200;
/// Control-U takes back what stands in the line already, Control-C ends what runs.
const CLEAR: &[u8] = b"\x15";
const INTERRUPT: &[u8] = b"\x03";

/// One connection to a console. There can be one at a time: another one waits until this is dropped.
pub struct Console {
    socket: UnixStream,
    end: Instant,
    most: usize,
}

impl Console {
    /// Connects, also where the socket is still to come. `most` bytes are read for one answer.
    pub fn connect(at: &Path, limit: Duration, most: usize) -> Result<Self, Fault> {
        let end = Instant::now() + limit;
        let socket = loop {
            match UnixStream::connect(at) {
                Ok(socket) => break socket,
                Err(error) if Instant::now() >= end => return Err(error.into()),
                Err(_) => sleep(Duration::from_millis(50)),
            }
        };
        socket.set_write_timeout(Some(limit.max(Duration::from_millis(1))))?;
        Ok(Self { socket, end, most })
    }

    /// Runs a command in a shell of its own: nothing of it stays, and a wrong one cannot spoil the console's shell.
    pub fn run(&mut self, command: &str) -> Result<Answer, Fault> {
        let name = unique_name();
        self.socket.write_all(CLEAR)?;
        self.socket.write_all(typed(command, &name).as_bytes())?;
        let mut seen = Vec::new();
        loop {
            match self.read_more(&mut seen, self.end) {
                Ok(()) => {}
                Err(fault) => {
                    // Else it would go on, and the next command would wait for it.
                    let _ = self.socket.write_all(INTERRUPT);
                    return Err(fault);
                }
            }
            if let Some(answer) = answer(&text(&seen), &name) {
                return Ok(answer);
            }
        }
    }

    /// Waits for a shell: presses Enter, which a console asks for, until a prompt answers it; nothing else is typed
    /// before, for a boot loader or a rescue mode might listen. Then keeps the kernel from speaking in between.
    pub fn wait_for_shell(&mut self) -> Result<(), Fault> {
        const STEP: Duration = Duration::from_secs(1);
        let mut seen = Vec::new();
        loop {
            let step = self.end.min(Instant::now() + STEP);
            match self.read_more(&mut seen, step) {
                Ok(()) => {}
                Err(Fault::Late(_)) if Instant::now() < self.end => {
                    self.socket.write_all(b"\n")?;
                }
                Err(fault) => return Err(fault),
            }
            // What is older than a few lines is of no interest; a console may say much while it boots.
            seen.drain(..seen.len().saturating_sub(4096));
            if ends_with_prompt(&text(&seen)) {
                break;
            }
        }
        let quiet = self.run("dmesg -n 1")?;
        if quiet.status != 0 {
            eprintln!("dmesg -n 1: status {}: {}", quiet.status, quiet.output);
        }
        Ok(())
    }

    /// Reads what comes next until `end`.
    fn read_more(&mut self, seen: &mut Vec<u8>, end: Instant) -> Result<(), Fault> {
        let mut chunk = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::Late(text(seen)));
            }
            if seen.len() > self.most {
                return Err(Fault::TooLong(text(seen)));
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(length) => {
                    seen.extend(&chunk[..length]);
                    return Ok(());
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn unique_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("@@{:x}.{:x}", process::id(), now.as_nanos())
}

/// What is typed for a command: its text in pieces as a format of printf, in which only harmless characters stand
/// for themselves (a tabulator would complete a file's name), and then a line that prints the marks. The marks'
/// last letters are set apart there, so that the echo holds no mark.
fn typed(command: &str, name: &str) -> String {
    use std::fmt::Write;
    let mut format = String::new();
    for (place, byte) in command.bytes().enumerate() {
        let harmless = byte.is_ascii_alphanumeric()
            || b" ./_=:,;|&<>(){}[]#~@+*?$\"^".contains(&byte)
            || byte == b'-' && place > 0;
        if harmless {
            format.push(char::from(byte));
        } else {
            write!(format, "\\{byte:03o}").unwrap();
        }
    }
    let mut lines = String::from("q=\n");
    for piece in format.as_bytes().chunks(PIECE) {
        let piece = str::from_utf8(piece).unwrap();
        writeln!(lines, "q=$q'{piece}'").unwrap();
    }
    writeln!(
        lines,
        "echo;echo {name}'b';sh -c \"$(printf \"$q\")\" </dev/null;printf '\\n{name}%s %s\\n' e $?"
    )
    .unwrap();
    lines
}

/// As a reader sees it, with one kind of line end.
fn text(seen: &[u8]) -> String {
    String::from_utf8_lossy(seen).replace("\r\n", "\n")
}

/// What stands between the marks. Where the kernel spoke into a mark itself, its messages are taken out.
fn answer(text: &str, name: &str) -> Option<Answer> {
    between(text, name).or_else(|| between(&without_kernel(text), name))
}

fn between(text: &str, name: &str) -> Option<Answer> {
    let (_, rest) = text.split_once(&format!("{name}b\n"))?;
    let (output, rest) = rest.split_once(&format!("\n{name}e "))?;
    let (status, _) = rest.split_once('\n')?;
    Some(Answer {
        output: output.to_owned(),
        status: status.parse().ok()?,
    })
}

/// The text without the kernel's messages, wherever they begin: `[   12.345678] …` to the end of the line.
fn without_kernel(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(place) = rest.find('[') {
        let (before, message) = rest.split_at(place);
        kept.push_str(before);
        rest = match message.split_once('\n') {
            Some((line, after)) if is_kernel(line) => after,
            _ => {
                kept.push('[');
                &message[1..]
            }
        };
    }
    // One may have stood between the two characters of a line's end.
    (kept + rest).replace("\r\n", "\n")
}

fn is_kernel(line: &str) -> bool {
    let Some((time, _)) = line[1..].split_once(']') else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    time.trim_start()
        .split_once('.')
        .is_some_and(|(seconds, micros)| digits(seconds) && digits(micros) && micros.len() == 6)
}

/// Whether a shell waits for a command: `root@OpenWrt:/# `, perhaps followed by a question to the terminal.
fn ends_with_prompt(text: &str) -> bool {
    let clean = without_kernel(text);
    let line = clean.rsplit('\n').next().unwrap_or_default();
    let line = line.strip_suffix("\x1b[6n").unwrap_or(line);
    line.ends_with("# ") || line.ends_with("$ ")
}
