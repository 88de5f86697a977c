//! Least privilege: what a running agent cannot do any more, and that it can still do its work.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use lab::folder::Folder;
use lab::home::{Device, server_v4};
use lab::name::{Files, NameServer};
use lab::netns::{Netns, new_group};
use lab::process::Process;
use lab::script::Reply;
use lab::{Agent, Exchange, Home, Observer, Script, agent, wait};
use landlock::{AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr};
use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, delete_module};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrIn, bind,
    listen as listen_on, socket,
};
use nix::unistd::{Pid, chroot, execv};
use qod_agent::config::Config;
use qod_agent::confine::confine;
use serde_json::{Value, json};

const EF: u8 = 46;
const LIMIT: Duration = Duration::from_secs(10);
/// `nobody` on every Linux.
const NOBODY: &str = "65534";
/// Bit 12 of linux/capability.h.
const NET_ADMIN: &str = "0000000000001000";

fn session() -> Value {
    json!({ "sessionId": "a", "dscp": EF, "expiresIn": 600,
        "device": { "ipv4Address": "192.168.1.23" }, "applicationServer": { "ipv4Address": "198.51.100.5" } })
}

fn dscp(home: &Home) -> (u8, u8) {
    Observer::start(home, Device::Phone)
        .udp(&Exchange::new(5010, server_v4(5), 33001))
        .dscp()
}

fn script(home: &Home) -> Script {
    Script::start(&home.internet, SocketAddr::new(server_v4(19).into(), 8080))
}

/// Whether this kernel has Landlock, and its rules for TCP. Asked without the agent's own code.
fn kernel_has_landlock() -> bool {
    hard().handle_access(AccessFs::ReadFile).is_ok()
}

fn kernel_has_landlock_for_tcp() -> bool {
    hard().handle_access(AccessNet::ConnectTcp).is_ok()
}

fn hard() -> Ruleset {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement)
}

#[test]
fn every_thread_of_the_agent_has_one_capability_and_a_filter() {
    let home = Home::without_modem();
    let script = script(&home);
    let agent = Agent::start(&home.router, &agent::config(&script.url()));
    let revision = script.serve_sessions(&[session()]);
    script.wait_revision(revision);
    assert_eq!(dscp(&home), (EF, EF));

    let tasks = format!("/proc/{}/task", agent.process.pid());
    // The loop, and the thread in which the next poll waits.
    let statuses = wait::expect("two threads", LIMIT, || {
        let tasks = fs::read_dir(&tasks).unwrap();
        let statuses: Vec<_> = tasks
            .filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok())
            .collect();
        (statuses.len() > 1).then_some(statuses)
    });
    for status in statuses {
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {status}"))
                .trim()
        };
        for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
            assert_eq!(value(set), NET_ADMIN, "{set} in {status}");
        }
        for set in ["CapInh:", "CapAmb:"] {
            assert_eq!(value(set), "0000000000000000", "{set} in {status}");
        }
        assert_eq!(value("NoNewPrivs:"), "1");
        assert_eq!(value("Seccomp:"), "2");
    }
    let log = agent.process.log();
    let line = log.lines().find(|line| line.contains("confined: "));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("confined: capabilities, seccomp, "), "{line}");
    let landlock = kernel_has_landlock();
    assert_eq!(line.contains("landlock ABI "), landlock, "{line}");
    assert_eq!(line.contains("no landlock here"), !landlock, "{line}");
}

#[test]
fn an_agent_without_root_marks() {
    let home = Home::without_modem();
    let script = script(&home);
    // Where nobody may look.
    let folder = Folder::new();
    let config = folder.write("config.json", agent::config(&script.url()).to_string());
    let binary = folder.path().join("qod-agent");
    fs::copy(agent::binary(), &binary).unwrap();
    for path in [folder.path(), &binary, &config] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = home.router.command("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    command.args([
        "--inh-caps",
        "-all,+net_admin",
        "--ambient-caps",
        "-all,+net_admin",
    ]);
    command.arg(&binary).args(["run", "--config"]).arg(&config);
    let agent = Process::start(&mut command, &folder.path().join("agent.log"));

    let revision = script.serve_sessions(&[session()]);
    script.wait_revision(revision);
    assert_eq!(dscp(&home), (EF, EF));
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    assert!(
        status.contains(&format!("CapEff:\t{NET_ADMIN}\n")),
        "{status}"
    );
    assert!(status.contains(&format!("Uid:\t{NOBODY}\t")), "{status}");
    assert!(agent.log().contains("confined: "), "{}", agent.log());
}

#[test]
fn a_backend_is_found_by_the_hosts_file() {
    let home = Home::without_modem();
    let script = script(&home);
    let _files = Files::new(
        &home.router,
        &[
            ("hosts", "198.51.100.19 backend.test\n"),
            ("nsswitch.conf", "hosts: files\n"),
        ],
    );
    reaches(&home, &script, "http://backend.test:8080");
}

#[test]
fn a_backend_is_found_by_a_name_server() {
    let home = Home::without_modem();
    let script = script(&home);
    let at = SocketAddr::new(server_v4(18).into(), 53);
    let _names = NameServer::start(&home.internet, at, server_v4(19));
    let _files = Files::new(
        &home.router,
        &[
            ("hosts", "127.0.0.1 localhost\n"),
            ("nsswitch.conf", "hosts: files dns\n"),
            ("resolv.conf", "nameserver 198.51.100.18\n"),
        ],
    );
    reaches(&home, &script, "http://backend.test:8080");
}

fn reaches(home: &Home, script: &Script, url: &str) {
    let _agent = Agent::start(&home.router, &agent::config(url));
    let revision = script.serve_sessions(&[session()]);
    script.wait_revision(revision);
    assert_eq!(dscp(home), (EF, EF));
}

#[test]
fn a_token_file_is_read_again_after_it_was_replaced() {
    let home = Home::without_modem();
    let script = script(&home);
    let folder = Folder::new();
    let mut config = agent::config(&script.url());
    let backend = config["backend"].as_object_mut().unwrap();
    backend.remove("token");
    backend.insert("tokenFile".into(), json!(folder.write("token", "old\n")));
    let _agent = Agent::start(&home.router, &config);
    let revision = script.serve_sessions(&[]);
    script.wait_revision(revision);

    fs::rename(
        folder.write("token.new", "new\n"),
        folder.path().join("token"),
    )
    .unwrap();
    script.serve_raw(Reply {
        status: 401,
        tag: "another".to_owned(),
        headers: Vec::new(),
        body: b"{}".to_vec(),
    });
    wait::expect("a call with the new token", LIMIT, || {
        let calls = script.calls();
        let new = calls
            .iter()
            .any(|call| call.header("authorization") == Some("Bearer new"));
        new.then_some(())
    });
}

/// A namespace and a thread in it that is confined as the agent is, beside a backend on loopback.
struct Cell {
    netns: Netns,
    /// Credentials are in it.
    folder: Folder,
    backend: TcpListener,
    config: Config,
}

impl Cell {
    fn new() -> Self {
        let [netns] = Netns::make(&new_group(), ["cell"]);
        netns.ip("link set lo up\n");
        let backend = netns.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
        let folder = Folder::new();
        let mut config = agent::config(&format!("http://{}", backend.local_addr().unwrap()));
        let credentials = config["backend"].as_object_mut().unwrap();
        credentials.remove("token");
        credentials.insert("tokenFile".into(), json!(folder.write("token", "token")));
        let config = Config::read(&folder.write("config.json", config.to_string())).unwrap();
        Self {
            netns,
            folder,
            backend,
            config,
        }
    }

    fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        self.netns.run(|| {
            let confinement = confine(&self.config).unwrap();
            assert!(confinement.seccomp, "{confinement}");
            job()
        })
    }

    fn token(&self) -> std::path::PathBuf {
        self.folder.path().join("token")
    }
}

/// The filter refuses it: neither its arguments nor anybody's rights were looked at.
fn refused<T: Debug>(what: &str, result: nix::Result<T>) {
    assert_eq!(result.unwrap_err(), Errno::ENOSYS, "{what}");
}

fn refused_io<T: Debug>(what: &str, result: io::Result<T>) {
    let errno = result.map(|_| ()).unwrap_err().raw_os_error();
    assert_eq!(errno, Some(Errno::ENOSYS as i32), "{what}");
}

/// Landlock refuses it, where the kernel has that right; where it has not, it is done.
fn forbidden<T: Debug>(what: &str, expected: bool, result: io::Result<T>) {
    match result {
        Err(error) => {
            assert!(expected, "{what}: {error}");
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{what}");
        }
        Ok(_) => assert!(!expected, "{what} is done"),
    }
}

/// A process that ends with the value.
struct Victim(std::process::Child);

impl Victim {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_program_is_started() {
    let cell = Cell::new();
    cell.run(|| {
        // If it were started, this process would be it, and fail.
        let exec = || execv(c"/bin/false", &[c"false"]);
        refused("execve", exec());
        // Whoever comes after is no freer.
        thread::spawn(move || refused("execve on a thread", exec()))
            .join()
            .unwrap();
        refused_io("a child", Command::new("/bin/true").status());
    });
}

#[test]
fn other_processes_are_out_of_reach() {
    let cell = Cell::new();
    let mut victim = Victim::new();
    let pid = victim.pid();
    // The filter refuses the question, too.
    let landlock = kernel_has_landlock();
    cell.run(|| {
        refused("ptrace", ptrace::attach(pid));
        refused("kill", kill(pid, Signal::SIGKILL));
        let memory = File::open(format!("/proc/{pid}/mem"));
        forbidden("its memory", landlock, memory);
    });
    assert!(victim.0.try_wait().unwrap().is_none());
}

#[test]
fn the_system_is_out_of_reach() {
    let cell = Cell::new();
    let other = Netns::make(&new_group(), ["other"]);
    let namespace = File::open(Path::new("/run/netns").join(other[0].name())).unwrap();
    let folder = cell.folder.path();
    cell.run(|| {
        let tmpfs = Some("tmpfs");
        let mounted = mount(tmpfs, folder, tmpfs, MsFlags::empty(), None::<&str>);
        refused("mount", mounted);
        refused("unshare", unshare(CloneFlags::CLONE_NEWNET));
        refused("setns", setns(&namespace, CloneFlags::CLONE_NEWNET));
        refused("chroot", chroot(folder));
        let module = delete_module(c"no_such_module", DeleteModuleFlags::O_NONBLOCK);
        refused("delete_module", module);
    });
}

#[test]
fn sockets_are_those_of_the_work() {
    let cell = Cell::new();
    cell.run(|| {
        let open = |family, kind, protocol| socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol);
        let netlink = |protocol| open(AddressFamily::Netlink, SockType::Raw, Some(protocol));
        let (inet, packet) = (AddressFamily::Inet, AddressFamily::Packet);
        refused("packets", open(packet, SockType::Datagram, None));
        refused("raw packets", open(packet, SockType::Raw, None));
        refused(
            "raw IP",
            open(inet, SockType::Raw, Some(SockProtocol::Icmp)),
        );
        refused("audit", netlink(SockProtocol::NetlinkAudit));
        refused("uevents", netlink(SockProtocol::NetlinkKObjectUEvent));
        refused_io("a local socket", UnixDatagram::unbound());

        netlink(SockProtocol::NetlinkRoute).unwrap();
        netlink(SockProtocol::NetlinkNetFilter).unwrap();
        let (one, two) = (udp(), udp());
        one.send_to(b"x", two.local_addr().unwrap()).unwrap();
        assert_eq!(two.recv(&mut [0; 8]).unwrap(), 1);
    });
}

fn udp() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

#[test]
fn tcp_goes_to_the_backend_alone() {
    let cell = Cell::new();
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let other = cell.netns.run(listen);
    let (backend, other_address) = (
        cell.backend.local_addr().unwrap(),
        other.local_addr().unwrap(),
    );
    let landlock = kernel_has_landlock_for_tcp();
    cell.run(|| {
        TcpStream::connect(backend).unwrap();
        forbidden("another port", landlock, TcpStream::connect(other_address));
        let tcp = || {
            let flags = SockFlag::SOCK_CLOEXEC;
            socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap()
        };
        let any = SockaddrIn::new(127, 0, 0, 1, 0);
        let bound = bind(tcp().as_raw_fd(), &any).map_err(io::Error::from);
        forbidden("a port of its own", landlock, bound);
        refused("listening", listen_on(&tcp(), Backlog::new(1).unwrap()));
    });
}

#[test]
fn files_are_read_where_they_are_needed() {
    let cell = Cell::new();
    let elsewhere = Folder::new();
    let secret = elsewhere.write("secret", "x");
    let hidden = cell.folder.path().join("hidden");
    symlink(&secret, &hidden).unwrap();
    let landlock = kernel_has_landlock();
    let token = cell.token();
    let (confined, replaced) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            cell.run(|| {
                confined.wait();
                replaced.wait();
                assert_eq!(fs::read_to_string(&token).unwrap(), "another");
                for file in ["/etc/hosts", "/etc/passwd", "/proc/self/status"] {
                    fs::read(file).unwrap_or_else(|e| panic!("{file}: {e}"));
                }
                let mut random = [0; 8];
                let urandom = File::open("/dev/urandom");
                urandom.unwrap().read_exact(&mut random).unwrap();
                for file in [
                    &secret,
                    &hidden,
                    Path::new("/usr/bin/env"),
                    Path::new("/proc/1/environ"),
                ] {
                    forbidden(&file.display().to_string(), landlock, File::open(file));
                }
                let folder = fs::read_dir(elsewhere.path());
                forbidden("a folder", landlock, folder.map(|_| ()));
            });
        });
        confined.wait();
        let new = cell.folder.write("token.new", "another");
        fs::rename(new, cell.token()).unwrap();
        replaced.wait();
    });
}

#[test]
fn nothing_is_written() {
    let cell = Cell::new();
    let folder = cell.folder.path();
    let token = cell.token();
    cell.run(|| {
        let new = folder.join("new");
        refused_io(
            "a file that is there",
            File::options().write(true).open(&token),
        );
        refused_io("its end", File::options().append(true).open(&token));
        refused_io(
            "reading and writing",
            File::options().read(true).write(true).open(&token),
        );
        refused_io("a new file", File::create(&new));
        refused_io("a new folder", fs::create_dir(&new));
        refused_io("a link", symlink(&token, &new));
        refused_io("another name", fs::rename(&token, &new));
        refused_io("removal", fs::remove_file(&token));
        let mode = fs::Permissions::from_mode(0o777);
        refused_io("chmod", fs::set_permissions(&token, mode));
        assert_eq!(fs::read_to_string(&token).unwrap(), "token");
    });
}
