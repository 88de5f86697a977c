//! Tries what the kernel can do, in a network namespace that is made for it and ends with it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use qod_wire::Counters;
use tokio::runtime::Builder;

use super::facts::{self, Ability};
use crate::dscp::Dscp;
use crate::flow::{Family, Match, Peer, PortRange, Prefix, Way};
use crate::netlink::Rtnetlink;
use crate::nft::{MarkBits, Nft};
use crate::queue::{Kind, Presence, Queues};
use crate::ruleset::{Changes, CommitError, Element, Hook, Kernel as _, Ruleset, Treatment};

/// The one device of a new network namespace.
const LOOPBACK: &str = "lo";
/// `LOOPBACK_IFINDEX` of the kernel.
const LOOPBACK_INDEX: u32 = 1;
const TIMEOUT: Duration = Duration::from_secs(100);
/// The kernel may load modules for it, which takes a slow flash seconds. Less than the 30 s after which rpcd
/// gives a program up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tries everything. `release` is the kernel's.
pub(super) fn kernel(bits: MarkBits, release: &str) -> facts::Kernel {
    let release = release.to_owned();
    let (tell, tried) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().spawn(move || {
        // For this thread alone; the namespace ends with it.
        let entered = unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            Errno::EINVAL => "this kernel has no network namespaces to try it in".to_owned(),
            errno => format!("making a network namespace to try it in: {}", errno.desc()),
        });
        // Whoever asked may have given up.
        let _ = tell.send(entered.map(|()| inside(bits, &release)));
    });
    let result = match thread.map(|_| tried.recv_timeout(PATIENCE)) {
        Ok(Ok(result)) => result,
        Ok(Err(RecvTimeoutError::Timeout)) => {
            let seconds = PATIENCE.as_secs();
            Err(format!("the kernel did not answer within {seconds} s"))
        }
        Ok(Err(RecvTimeoutError::Disconnected)) => Err("trying it failed".to_owned()),
        Err(error) => Err(format!("starting a thread to try it in: {error}")),
    };
    result.unwrap_or_else(|why: String| facts::Kernel::untried(&why))
}

fn inside(bits: MarkBits, release: &str) -> facts::Kernel {
    let mut kernel = facts::Kernel::untried("nf_tables is missing");
    kernel.queues = queues(release);
    let mut nft = Nft::new(bits);
    if let Err(error) = nft.observe() {
        kernel.nf_tables = Ability::Missing(error.to_string());
        return kernel;
    }
    kernel.nf_tables = Ability::There;
    kernel.limit = able(nft.has_limit());
    kernel.moves_ends = able(nft.moves_end());
    let elements = elements();
    kernel.maps = change(&mut nft, &structure(&elements), |held| {
        let mine = elements.iter().map(|element| &element.matches);
        let mut held = mine.map(|matches| held.elements.get(matches));
        held.all(|held| held.is_some_and(|held| held.remaining <= TIMEOUT))
    });
    if let Ability::Missing(_) = kernel.maps {
        let untried = Ability::Untried("the agent's table is refused".to_owned());
        kernel.ingress = untried.clone();
        kernel.egress = untried;
        return kernel;
    }
    kernel.ingress = hook(&mut nft, Hook::Up(LOOPBACK.to_owned()));
    kernel.egress = hook(&mut nft, Hook::Down(LOOPBACK.to_owned()));
    kernel
}

fn able(result: Result<bool, CommitError>) -> Ability {
    match result {
        Ok(true) => Ability::There,
        Ok(false) => Ability::Missing("this kernel does not know it".to_owned()),
        Err(error) => Ability::Missing(error.to_string()),
    }
}

/// Makes a change and looks whether the kernel then holds what it should.
fn change(nft: &mut Nft, changes: &Changes, good: impl Fn(&Ruleset) -> bool) -> Ability {
    if let Err(error) = nft.commit(changes) {
        return Ability::Missing(error.to_string());
    }
    match nft.observe() {
        Ok(held) if good(&held) => Ability::There,
        Ok(_) => Ability::Missing("the kernel took it, and holds something else".to_owned()),
        Err(error) => Ability::Missing(error.to_string()),
    }
}

fn hook(nft: &mut Nft, hook: Hook) -> Ability {
    let changes = Changes {
        add_hooks: BTreeMap::from([(hook.clone(), LOOPBACK_INDEX)]),
        ..Changes::default()
    };
    change(nft, &changes, |held| held.hooks.contains_key(&hook))
}

/// The whole table, with these elements.
fn structure(elements: &[Element]) -> Changes {
    Changes {
        create: true,
        add_dscps: elements.iter().map(|e| e.treatment.dscp).collect(),
        add: elements.to_vec(),
        add_devices: elements
            .iter()
            .map(|element| element.matches.device)
            .collect(),
        ..Changes::default()
    }
}

/// One for each map: both families, both ways, with ports, without, and the whole device.
fn elements() -> Vec<Element> {
    let ports = PortRange {
        from: 5010,
        to: 5020,
    };
    let peers = |server| {
        let flow = Peer::Ports {
            server,
            device_ports: ports,
            server_ports: PortRange::ANY,
        };
        [flow, Peer::Host(server), Peer::Whole]
    };
    let mut elements = Vec::new();
    for (family, device) in [
        (Family::V4, IpAddr::V4(Ipv4Addr::LOCALHOST)),
        (Family::V6, IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ] {
        for way in Way::ALL {
            let matches = peers(Prefix::any(family)).map(|peer| Match { way, device, peer });
            elements.extend(matches.into_iter().filter_map(|matches| {
                Some(Element {
                    matches,
                    session: "check".into(),
                    treatment: Treatment {
                        dscp: Dscp::new(46)?,
                        ceiling_kbps: None,
                    },
                    timeout: TIMEOUT,
                    counters: Counters::default(),
                })
            }));
        }
    }
    elements
}

fn queues(release: &str) -> Vec<(Kind, Ability)> {
    let untried = |why: String| Kind::ALL.map(|kind| (kind, Ability::Untried(why.clone())));
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return untried(format!("starting the runtime: {error}")).to_vec(),
    };
    runtime.block_on(async {
        let rtnetlink = match Rtnetlink::open() {
            Ok(rtnetlink) => rtnetlink,
            Err(error) => return untried(format!("opening a netlink socket: {error}")).to_vec(),
        };
        let mut queues = Queues::new(rtnetlink);
        let mut found = Vec::new();
        for kind in Kind::ALL {
            let ability = if kind == Kind::Ifb && waits_for_its_module(release, "ifb") {
                // Its module makes two devices as it is loaded; the file is proof enough.
                Ability::There
            } else {
                match queues.probe(kind).await {
                    Presence::There => Ability::There,
                    Presence::Unknown => {
                        Ability::Missing("this kernel does not know it".to_owned())
                    }
                    Presence::Refused(error) => Ability::Missing(error.to_string()),
                }
            };
            found.push((kind, ability));
        }
        found
    })
}

/// Whether a module is installed and not loaded.
fn waits_for_its_module(release: &str, name: &str) -> bool {
    let folder = Path::new("/lib/modules").join(release);
    // OpenWrt has all modules in one folder, other distributions a list of them.
    let installed = folder.join(format!("{name}.ko")).exists()
        || fs::read_to_string(folder.join("modules.dep"))
            .is_ok_and(|list| list.contains(&format!("/{name}.ko")));
    installed && !Path::new("/sys/module").join(name).exists()
}
