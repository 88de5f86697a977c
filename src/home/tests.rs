//! What is seen of a home; and homes for others' tests.

use super::*;
use crate::flow::Prefix;
use crate::link::{Neighbour, Station};

const BR_LAN: u32 = 1;
const GUEST: u32 = 2;
const LAN1: u32 = 11;
const WLAN0: u32 = 12;

pub(crate) fn mac(last: u8) -> Mac {
    Mac::new(&[2, 0, 0, 0, 0, last]).unwrap()
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A home with a bridge of `lan1` and `wlan0`, and a port on its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    neighbours: Neighbours,
    remembered: HashMap<Mac, u32>,
}

impl Scene {
    fn entry(mut self, lan: u32, text: &str, standing: Standing, seconds: u64) -> Self {
        self.neighbours.entries.push(Neighbour {
            lan,
            address: address(text),
            standing,
            age: Duration::from_secs(seconds),
        });
        self
    }

    pub(crate) fn live(self, text: &str, last: u8) -> Self {
        self.entry(BR_LAN, text, Standing::Live(mac(last)), 1)
    }

    pub(crate) fn stale(self, text: &str, last: u8, seconds: u64) -> Self {
        self.entry(BR_LAN, text, Standing::Stale(mac(last)), seconds)
    }

    pub(crate) fn failed(self, text: &str) -> Self {
        self.entry(BR_LAN, text, Standing::Failed, 1)
    }

    /// Behind a port of the bridge, by its name.
    pub(crate) fn at(mut self, last: u8, port: &str) -> Self {
        self.neighbours.stations.push(Station {
            mac: mac(last),
            port: if port == "wlan0" { WLAN0 } else { LAN1 },
            age: Duration::ZERO,
        });
        self
    }

    pub(crate) fn home(&self) -> Home {
        Home::new(&snapshot(), &self.neighbours, &self.remembered)
    }
}

fn snapshot() -> Snapshot {
    let lan = |name: &str, index, is_bridge, prefix: &str, length| Lan {
        name: name.to_owned(),
        index,
        is_bridge,
        is_up: true,
        prefixes: Prefix::new(address(prefix), length).into_iter().collect(),
    };
    let port = |name: &str, index, medium, bridge: Option<&str>| Port {
        name: name.to_owned(),
        index,
        medium,
        bridge: bridge.map(str::to_owned),
    };
    Snapshot {
        lans: vec![
            lan("br-lan", BR_LAN, true, "192.168.1.0", 24),
            lan("guest", GUEST, false, "192.168.2.0", 24),
        ],
        ports: vec![
            port("lan1", LAN1, Medium::Wired, Some("br-lan")),
            port("wlan0", WLAN0, Medium::Wifi, Some("br-lan")),
            port("guest", GUEST, Medium::Wired, None),
        ],
        own: BTreeSet::from([address("192.168.1.1")]),
        ..Snapshot::default()
    }
}

#[test]
fn a_devices_addresses_are_those_at_its_mac() {
    let home = Scene::default()
        .live("2001:db8::17", 0x17)
        .stale("192.168.1.23", 0x17, 300)
        .live("fe80::17", 0x17)
        .live("192.168.1.24", 0x18)
        .failed("192.168.1.99")
        .home();
    let expected = [address("192.168.1.23"), address("2001:db8::17")];
    assert_eq!(home.addresses(mac(0x17)), expected);
    assert!(home.has_failed(address("192.168.1.99")));
    assert!(home.is_own(address("192.168.1.1")));
    assert!(home.knows(mac(0x18)) && !home.knows(mac(0x19)));
    let (_, asked) = home.askable(mac(0x17)).unwrap();
    assert_eq!(asked, address("2001:db8::17"));
}

#[test]
fn an_address_behind_two_lan_devices_is_where_it_was_seen_last() {
    let text = "192.168.1.23";
    let scene = Scene::default()
        .entry(BR_LAN, text, Standing::Stale(mac(1)), 5)
        .entry(GUEST, text, Standing::Live(mac(2)), 9);
    let home = scene.home();
    assert_eq!(home.sighting(address(text)).unwrap().mac, mac(2));
    let scene = Scene::default()
        .entry(BR_LAN, text, Standing::Failed, 5)
        .entry(GUEST, text, Standing::Asked, 9);
    assert!(!scene.home().has_failed(address(text)));
}

#[test]
fn a_port_is_remembered_as_long_as_it_is_there() {
    let place = |scene: &Scene| scene.home().port(mac(0x17)).map(|place| place.port.clone());
    let mut scene = Scene::default();
    assert_eq!(place(&scene), None);
    scene.remembered = HashMap::from([(mac(0x17), WLAN0)]);
    assert_eq!(place(&scene).unwrap(), "wlan0");
    assert_eq!(place(&scene.clone().at(0x17, "lan1")).unwrap(), "lan1");
    scene.remembered = HashMap::from([(mac(0x17), 99)]);
    assert_eq!(place(&scene), None);
    // A port on its own has no bridge that would learn.
    let scene = scene.entry(GUEST, "192.168.2.3", Standing::Live(mac(0x17)), 0);
    assert_eq!(place(&scene).unwrap(), "guest");
}

#[test]
fn an_address_is_looked_for_where_its_prefix_is() {
    let home = Scene::default().home();
    assert_eq!(home.lan_names(address("192.168.2.9")), "guest");
    assert_eq!(home.lan_names(address("10.0.0.1")), "br-lan or guest");
    let nowhere = Home::default();
    assert_eq!(
        nowhere.lan_names(address("10.0.0.1")),
        "any device of the home"
    );
}
