use std::path::PathBuf;

use qod_wire::{Medium, QueueMode, QueueStatus};

use super::super::facts::{Exposed, Kernel, Site};
use super::*;
use crate::link::{Port, Snapshot, Wan};
use crate::queue::Kind;

fn kernel() -> Kernel {
    Kernel {
        nf_tables: Ability::There,
        maps: Ability::There,
        ingress: Ability::There,
        egress: Ability::There,
        limit: Ability::There,
        moves_ends: Ability::There,
        queues: Kind::ALL.map(|kind| (kind, Ability::There)).to_vec(),
    }
}

fn port(name: &str, medium: Medium, bridge: Option<&str>) -> Port {
    Port {
        name: name.to_owned(),
        index: 1,
        medium,
        bridge: bridge.map(str::to_owned),
    }
}

fn site() -> Site {
    Site {
        lan: vec!["br-lan".to_owned()],
        wan: Some("wan".to_owned()),
        queue_mode: QueueMode::Auto,
        links: Ok(Snapshot {
            ports: vec![
                port("lan1", Medium::Wired, Some("br-lan")),
                port("wlan0", Medium::Wifi, Some("br-lan")),
            ],
            wan: Some(Wan {
                name: "wan".to_owned(),
                index: 9,
                up: true,
                mtu: 1492,
                addresses: vec!["203.0.113.7".parse().unwrap()],
            }),
            ..Snapshot::default()
        }),
        root: Ok(None),
        tls: true,
        credentials: Ok("token in /etc/qod-agent/token".to_owned()),
        exposed: Vec::new(),
    }
}

fn facts() -> Facts {
    Facts {
        kernel: "6.6.106".to_owned(),
        release: Some("OpenWrt 24.10.4".to_owned()),
        may_administer: true,
        abilities: kernel(),
        site: Ok(site()),
        flowtables: Ok(Vec::new()),
        time: BUILT_AFTER,
        agent: Ok(false),
    }
}

fn with_site(bend: impl FnOnce(&mut Site)) -> Facts {
    let mut site = site();
    bend(&mut site);
    Facts {
        site: Ok(site),
        ..facts()
    }
}

fn with_kernel(bend: impl FnOnce(&mut Kernel)) -> Facts {
    let mut abilities = kernel();
    bend(&mut abilities);
    Facts {
        abilities,
        ..facts()
    }
}

fn flowtable(hardware: bool) -> Flowtable {
    Flowtable {
        family: "inet",
        table: "fw4".to_owned(),
        name: "ft".to_owned(),
        hardware,
        devices: vec!["lan1".to_owned(), "wan".to_owned()],
    }
}

fn text(facts: &Facts) -> Vec<String> {
    lines(facts).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn says(facts: &Facts, expected: &str, result: &str) {
    let text = text(facts);
    let found = text.iter().any(|line| line.starts_with(expected));
    assert!(found, "no line {expected:?} in {text:#?}");
    let last = text.last().unwrap();
    assert!(
        last.starts_with(&format!("{result:<4}  result: ")),
        "{last}"
    );
}

fn missing() -> Ability {
    Ability::Missing("Operation not supported".to_owned())
}

#[test]
fn a_good_router_is_called_good_in_every_line() {
    let text = text(&facts());
    assert!(
        text.iter().all(|line| line.starts_with("ok    ")),
        "{text:#?}"
    );
    for line in [
        "ok    kernel: 6.6.106 of OpenWrt 24.10.4",
        "ok    LAN br-lan: a bridge with lan1 (wired), wlan0 (Wi-Fi)",
        "ok    WAN wan: up, MTU 1492, 203.0.113.7",
        "ok    root qdisc of wan: the kernel's own",
        "ok    result: the agent can do its job here",
    ] {
        assert!(
            text.iter().any(|found| found == line),
            "no {line:?} in {text:#?}"
        );
    }
}

#[test]
fn what_marks_need_is_a_failure_with_its_package() {
    type Bend = fn(&mut Kernel);
    let failing: [(Bend, &str); 4] = [
        (
            |k| k.nf_tables = missing(),
            "FAIL  nf_tables: missing (Operation not supported): install kmod-nft-core",
        ),
        (|k| k.maps = missing(), "FAIL  maps: missing"),
        (
            |k| k.ingress = missing(),
            "FAIL  ingress hook: missing (Operation not supported): install kmod-nft-netdev",
        ),
        (
            |k| k.egress = missing(),
            "FAIL  egress hook: missing (Operation not supported): install kmod-nft-netdev",
        ),
    ];
    for (bend, expected) in failing {
        says(&with_kernel(bend), expected, "FAIL");
    }
    let unprivileged = Facts {
        may_administer: false,
        ..facts()
    };
    says(
        &unprivileged,
        "FAIL  rights: CAP_NET_ADMIN is missing",
        "FAIL",
    );
}

#[test]
fn what_is_only_useful_is_a_warning_with_its_package() {
    says(
        &with_kernel(|k| k.limit = missing()),
        "warn  limit: missing",
        "ok",
    );
    for (kind, expected) in [
        (
            Kind::Htb,
            "warn  HTB: missing (Operation not supported): install kmod-sched-core",
        ),
        (
            Kind::Tbf,
            "warn  TBF: missing (Operation not supported): install kmod-sched-core",
        ),
        (Kind::FqCodel, "warn  fq_codel: missing"),
        (
            Kind::Cake,
            "ok    CAKE: missing (Operation not supported): kmod-sched-cake; not needed",
        ),
        (
            Kind::Ifb,
            "ok    IFB: missing (Operation not supported): kmod-ifb; not needed",
        ),
        (
            Kind::Ingress,
            "ok    ingress qdisc: missing (Operation not supported): kmod-sched-core; not needed",
        ),
    ] {
        let lacking = with_kernel(|k| k.queues = vec![(kind, missing())]);
        says(&lacking, expected, "ok");
    }
    let old = with_kernel(|k| k.moves_ends = missing());
    says(
        &old,
        "ok    timeouts: an element's end cannot be moved",
        "ok",
    );
}

#[test]
fn what_could_not_be_tried_is_not_called_good() {
    let untried = Facts {
        abilities: Kernel::untried("no namespaces"),
        ..facts()
    };
    says(
        &untried,
        "warn  egress hook: not tried: no namespaces",
        "FAIL",
    );
}

#[test]
fn links_are_looked_at_one_by_one() {
    let absent = with_site(|site| {
        site.lan.push("guest".to_owned());
        site.links
            .as_mut()
            .unwrap()
            .missing
            .push("guest".to_owned());
    });
    says(&absent, "warn  LAN guest: no such device (yet)", "ok");
    let nothing = with_site(|site| site.links.as_mut().unwrap().ports.clear());
    says(&nothing, "warn  LAN br-lan: a bridge without ports", "FAIL");
    says(&nothing, "FAIL  LAN ports: none is there", "FAIL");
    let single = with_site(|site| {
        site.links.as_mut().unwrap().ports = vec![port("br-lan", Medium::Wired, None)];
    });
    says(
        &single,
        "ok    LAN br-lan: a port itself: br-lan (wired)",
        "ok",
    );
    let down = with_site(|site| site.links.as_mut().unwrap().wan.as_mut().unwrap().up = false);
    says(&down, "warn  WAN wan: is down", "ok");
    let no_wan = with_site(|site| site.links.as_mut().unwrap().wan = None);
    says(&no_wan, "warn  WAN wan: no such device (yet)", "ok");
    let access_point = with_site(|site| {
        site.wan = None;
        site.links.as_mut().unwrap().wan = None;
    });
    says(&access_point, "ok    WAN: none is configured", "ok");
}

#[test]
fn the_root_qdisc_has_an_owner() {
    let root = |kind: &str, owner: &str| {
        Ok(Some(QueueStatus {
            device: "wan".to_owned(),
            kind: kind.to_owned(),
            owner: owner.to_owned(),
            classes: Vec::new(),
        }))
    };
    let foreign = with_site(|site| site.root = root("cake", "foreign"));
    says(
        &foreign,
        "warn  root qdisc of wan: cake of another program's",
        "ok",
    );
    let ours = with_site(|site| site.root = root("htb", "qod-agent"));
    says(&ours, "ok    root qdisc of wan: htb of qod-agent", "ok");
    let off = with_site(|site| {
        site.root = root("cake", "foreign");
        site.queue_mode = QueueMode::Off;
    });
    says(
        &off,
        "ok    root qdisc of wan: cake of another program's; queues are off",
        "ok",
    );
}

#[test]
fn offload_matters_in_hardware_only() {
    let with = |flowtables| Facts {
        flowtables: Ok(flowtables),
        ..facts()
    };
    says(
        &with(vec![flowtable(false)]),
        "ok    flow offload: in software (flowtable ft of table inet fw4 on lan1, wan)",
        "ok",
    );
    says(
        &with(vec![flowtable(false), flowtable(true)]),
        "warn  flow offload: flows are handed to hardware (flowtable ft of table inet fw4 on lan1, wan)",
        "ok",
    );
}

#[test]
fn a_clock_before_the_program_matters_with_tls() {
    let early = |tls| Facts {
        time: BUILT_AFTER - Duration::from_secs(1),
        ..with_site(|site| site.tls = tls)
    };
    says(
        &early(true),
        "FAIL  clock: shows a time before 2026",
        "FAIL",
    );
    says(&early(false), "warn  clock: shows a time before 2026", "ok");
}

#[test]
fn secrets_are_to_be_kept() {
    let open = with_site(|site| {
        site.exposed.push(Exposed {
            file: PathBuf::from("/etc/t"),
            mode: 0o644,
        });
    });
    says(
        &open,
        "warn  permissions: /etc/t holds a secret and is open to everybody (mode 0644): chmod 600 /etc/t",
        "ok",
    );
    let unusable = with_site(|site| site.credentials = Err("/etc/t: cannot be read".to_owned()));
    says(
        &unusable,
        "FAIL  credentials: /etc/t: cannot be read",
        "FAIL",
    );
}

#[test]
fn a_configuration_that_is_broken_hides_nothing_of_the_kernel() {
    let broken = Facts {
        site: Err("c.json: lan: is missing".to_owned()),
        ..facts()
    };
    says(
        &broken,
        "FAIL  configuration: c.json: lan: is missing",
        "FAIL",
    );
    says(&broken, "ok    HTB: there", "FAIL");
}
