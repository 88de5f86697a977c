//! Landlock (landlock(7)): which files can be read, and where TCP may go. Nothing can be written or
//! executed.
//!
//! A rule holds for what its path names when the rule is made, so rules are for *folders*: the files
//! in them are replaced by renaming new ones into their place.

use std::fs;
use std::io;
use std::path::{self, Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, AddRuleError, AddRulesError, CreateRulesetError,
    LandlockStatus, NetPort, RestrictSelfError, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, path_beneath_rules,
};
use ureq::http::Uri;

use super::Error;
use crate::backend::SYSTEM_AUTHORITIES;
use crate::config::{Backend, Token};

/// What is handled: the newest version that the tests have seen. Older kernels do what they can.
const VERSION: ABI = ABI::V7;

const DNS: u16 = 53;
const RESOLVER: &str = "/etc/resolv.conf";
/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Read always.
const READABLE: &[&str] = &[
    // Of the resolver: hosts, nsswitch.conf, gai.conf; and the system's authorities.
    "/etc",
    // glibc loads name services as libraries, and its allocator asks the kernel about memory.
    #[cfg(target_env = "gnu")]
    "/lib",
    #[cfg(target_env = "gnu")]
    "/lib64",
    #[cfg(target_env = "gnu")]
    "/usr/lib",
    #[cfg(target_env = "gnu")]
    "/usr/lib64",
    #[cfg(target_env = "gnu")]
    "/proc/sys/vm/overcommit_memory",
    "/proc/self",
    "/sys/class/net",
    "/sys/devices",
    // Where the kernel has no getrandom(2).
    "/dev/urandom",
];

/// Enters a domain of its own and returns the version of the kernel's interface; none where the
/// kernel has no Landlock.
pub(super) fn enter(backend: &Backend) -> Result<Option<i32>, Error> {
    let enter = || {
        Ruleset::default()
            .handle_access(AccessFs::from_all(VERSION))?
            .handle_access(AccessNet::from_all(VERSION))?
            .scope(Scope::from_all(VERSION))?
            .create()?
            .add_rules(path_beneath_rules(
                readable(backend),
                AccessFs::ReadFile | AccessFs::ReadDir,
            ))?
            // No port is for binding: the status server listens already.
            .add_rules(
                ports(backend)
                    .map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp))),
            )?
            .restrict_self()
    };
    let status = enter().map_err(|error| Error::Landlock(cause(error)))?;
    Ok(match status.landlock {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => Some(kernel_abi.unwrap_or(effective_abi as i32)),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    })
}

/// What the kernel said. Its words alone: the library's own texts are 4 kB, and nobody should see them.
fn cause(error: RulesetError) -> io::Error {
    match error {
        RulesetError::CreateRuleset(CreateRulesetError::CreateRulesetCall { source, .. })
        | RulesetError::AddRules(
            AddRulesError::Fs(AddRuleError::AddRuleCall { source, .. })
            | AddRulesError::Net(AddRuleError::AddRuleCall { source, .. }),
        )
        | RulesetError::RestrictSelf(
            RestrictSelfError::RestrictSelfCall { source, .. }
            | RestrictSelfError::SetNoNewPrivsCall { source, .. },
        ) => source,
        // Nothing else fails while older kernels may do what they can.
        _ => io::ErrorKind::InvalidInput.into(),
    }
}

fn readable(backend: &Backend) -> Vec<PathBuf> {
    let mut paths: Vec<_> = READABLE.iter().map(PathBuf::from).collect();
    paths.extend(folders(Path::new(RESOLVER)));
    for file in files(backend) {
        paths.extend(folders(file));
    }
    paths
}

/// The credential files, which are read again when the backend refuses the agent.
fn files(backend: &Backend) -> impl Iterator<Item = &Path> {
    let token = match &backend.token {
        Some(Token::File(file)) => Some(file.as_path()),
        Some(Token::Inline(_)) | None => None,
    };
    let system = Path::new(SYSTEM_AUTHORITIES);
    let authorities = Some(backend.ca_file.as_deref().unwrap_or(system));
    let client = backend.client_cert.as_ref();
    let certificate = client.map(|(certificate, _)| certificate.as_path());
    let key = client.map(|(_, key)| key.as_path());
    [token, authorities, certificate, key].into_iter().flatten()
}

/// Where TCP may go: the backend, and name servers whose answers do not fit into a datagram.
fn ports(backend: &Backend) -> impl Iterator<Item = u16> {
    let uri: Option<Uri> = backend.url.parse().ok();
    let given = uri.and_then(|uri| uri.port_u16());
    let default = if backend.url.starts_with("http:") {
        80
    } else {
        443
    };
    [DNS, given.unwrap_or(default)].into_iter()
}

/// The folder of a file and, if that is a link, those of the links and of the file that they lead
/// to. What does not exist yet will: its nearest ancestor stands for it.
fn folders(file: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut next = path::absolute(file).ok();
    for _ in 0..MOST_LINKS {
        let Some(file) = next else { break };
        folders.extend(folder(&file));
        let target = fs::read_link(&file).ok();
        next = target.and_then(|target| Some(file.parent()?.join(target)));
    }
    folders
}

/// The root would be everything: a file that is there is named itself.
fn folder(file: &Path) -> Option<PathBuf> {
    let mut above = file.ancestors().skip(1);
    let folder = above.find_map(|folder| fs::canonicalize(folder).ok())?;
    match folder.parent() {
        Some(_) => Some(folder),
        None => fs::canonicalize(file).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn backend(url: &str) -> Backend {
        Backend {
            url: url.to_owned(),
            bootstrap_token_file: None,
            token: None,
            ca_file: None,
            client_cert: None,
        }
    }

    #[test]
    fn tcp_goes_to_the_backend_and_to_name_servers() {
        let ports = |url| ports(&backend(url)).collect::<Vec<_>>();
        assert_eq!(ports("https://backend.example"), [53, 443]);
        assert_eq!(ports("http://192.0.2.1/qod"), [53, 80]);
        assert_eq!(ports("https://[2001:db8::1]:8443"), [53, 8443]);
    }

    #[test]
    fn every_credential_file_is_readable() {
        let mut backend = backend("https://backend.example");
        assert_eq!(
            files(&backend).collect::<Vec<_>>(),
            [Path::new(SYSTEM_AUTHORITIES)]
        );
        backend.token = Some(Token::File("/a/token".into()));
        backend.ca_file = Some("/b/ca.pem".into());
        backend.client_cert = Some(("/c/cert.pem".into(), "/d/key.pem".into()));
        let expected = ["/a/token", "/b/ca.pem", "/c/cert.pem", "/d/key.pem"];
        assert_eq!(files(&backend).collect::<Vec<_>>(), expected.map(Path::new));
    }

    #[test]
    fn links_are_followed_to_folders_that_exist() {
        let top = std::env::temp_dir().join(format!("qod-landlock-{}", std::process::id()));
        let top = fs::create_dir_all(&top)
            .and_then(|()| fs::canonicalize(&top))
            .unwrap();
        for folder in ["etc", "run"] {
            fs::create_dir_all(top.join(folder)).unwrap();
        }
        // As systemd-resolved links it, before that has made its folder.
        symlink(
            "../run/systemd/resolve/stub.conf",
            top.join("etc/resolv.conf"),
        )
        .unwrap();
        symlink("resolv.conf", top.join("etc/again")).unwrap();
        symlink("circle", top.join("etc/circle")).unwrap();
        let etc = top.join("etc");
        assert_eq!(
            folders(&top.join("etc/again")),
            [etc.clone(), etc.clone(), top.join("run")]
        );
        assert_eq!(folders(&top.join("etc/circle")), vec![etc; MOST_LINKS]);
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn nothing_makes_the_root_readable() {
        assert_eq!(folders(Path::new("/no-such-file")), Vec::<PathBuf>::new());
        assert_eq!(folders(Path::new("/proc")), [Path::new("/proc")]);
    }
}
