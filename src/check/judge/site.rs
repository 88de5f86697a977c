//! What the configuration names.

use qod_wire::{Medium, QueueMode};

use super::super::facts::{Exposed, Site};
use super::super::line::Line;
use crate::link::{Port, Snapshot};

pub(super) fn lines(site: &Site) -> Vec<Line> {
    let mut lines = match &site.links {
        Ok(links) => links_lines(site, links),
        Err(error) => vec![Line::fail("links", error)],
    };
    lines.push(match &site.credentials {
        Ok(what) => Line::ok("credentials", what),
        Err(error) => Line::fail("credentials", error),
    });
    lines.extend(site.exposed.iter().map(exposed));
    lines
}

fn links_lines(site: &Site, links: &Snapshot) -> Vec<Line> {
    let mut lines: Vec<_> = site.lan.iter().map(|name| lan(name, links)).collect();
    if links.ports.is_empty() {
        let text = "none is there: nothing can be marked";
        lines.push(Line::fail("LAN ports", text));
    }
    lines.push(wan(site, links));
    if links.wan.is_some() {
        lines.push(root(site));
    }
    lines
}

fn lan(name: &str, links: &Snapshot) -> Line {
    let what = format!("LAN {name}");
    if links.missing.iter().any(|missing| missing == name) {
        return Line::warn(what, "no such device (yet): compare lan with ip link");
    }
    let members: Vec<_> = links
        .ports
        .iter()
        .filter(|port| port.bridge.as_deref() == Some(name))
        .map(describe)
        .collect();
    let itself = links.ports.iter().find(|port| port.name == name);
    match (members.as_slice(), itself) {
        ([], Some(port)) => Line::ok(what, format!("a port itself: {}", describe(port))),
        ([], None) => Line::warn(what, "a bridge without ports: nothing to mark there"),
        (members, _) => Line::ok(what, format!("a bridge with {}", members.join(", "))),
    }
}

fn describe(port: &Port) -> String {
    let medium = match port.medium {
        Medium::Wifi => "Wi-Fi",
        Medium::Wired => "wired",
    };
    format!("{} ({medium})", port.name)
}

fn wan(site: &Site, links: &Snapshot) -> Line {
    let Some(name) = &site.wan else {
        return Line::ok(
            "WAN",
            "none is configured: a plain access point, without queues",
        );
    };
    let what = format!("WAN {name}");
    match &links.wan {
        None => Line::warn(what, "no such device (yet): compare wan with ip link"),
        Some(wan) if !wan.up => Line::warn(what, format!("is down: ip link set {name} up")),
        Some(wan) => {
            let addresses: Vec<_> = wan.addresses.iter().map(ToString::to_string).collect();
            let addresses = match addresses.as_slice() {
                [] => "no address".to_owned(),
                all => all.join(", "),
            };
            Line::ok(what, format!("up, MTU {}, {addresses}", wan.mtu))
        }
    }
}

fn root(site: &Site) -> Line {
    let what = format!("root qdisc of {}", site.wan.as_deref().unwrap_or_default());
    let off = site.queue_mode == QueueMode::Off;
    match &site.root {
        Err(error) => Line::warn(what, format!("not known: {error}")),
        Ok(None) => Line::ok(what, "the kernel's own"),
        Ok(Some(root)) if root.owner == "qod-agent" => {
            Line::ok(what, format!("{} of qod-agent", root.kind))
        }
        Ok(Some(root)) if off => Line::ok(
            what,
            format!("{} of another program's; queues are off", root.kind),
        ),
        Ok(Some(root)) => Line::warn(
            what,
            format!(
                "{} of another program's: it is kept, and sessions have no queue; stop that program \
                 (SQM?) and remove it, or set queues to off",
                root.kind
            ),
        ),
    }
}

fn exposed(exposed: &Exposed) -> Line {
    let Exposed { file, mode } = exposed;
    let file = file.display();
    Line::warn(
        "permissions",
        format!(
            "{file} holds a secret and is open to everybody (mode {mode:04o}): chmod 600 {file}"
        ),
    )
}
