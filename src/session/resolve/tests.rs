//! Orders in homes that change.

use std::collections::BTreeMap;

use proptest::prelude::*;
use qod_wire::RejectCode;
use serde_json::{Value, json};

use super::*;
use crate::flow::Family;
use crate::home::PATIENCE;
use crate::home::tests::{Scene, address, mac};

const NOW: Duration = Duration::from_secs(1000);
const V4: &str = "192.168.1.23";
const V6: &str = "2001:db8:1::23";

fn item(device: Value, servers: &[Family], more: Value) -> Item {
    let mut session = json!({ "sessionId": "a", "dscp": 46, "device": device });
    for family in servers {
        let (key, server) = match family {
            Family::V4 => ("ipv4Address", "198.51.100.5"),
            Family::V6 => ("ipv6Address", "2001:db8:2::5"),
        };
        session["applicationServer"][key] = json!(server);
    }
    for (key, value) in more.as_object().unwrap() {
        session[key] = value.clone();
    }
    let raw = serde_json::value::to_raw_value(&session).unwrap();
    crate::session::read(&[raw], NOW).0.remove(0)
}

fn phone(servers: &[Family]) -> Item {
    item(json!({ "ipv4Address": V4 }), servers, json!({}))
}

/// One order through time.
struct Course {
    items: Vec<Item>,
    bonds: Bonds,
    questions: Questions,
    now: Duration,
}

impl Course {
    fn new(item: Item) -> Self {
        Self {
            items: vec![item],
            bonds: Bonds::default(),
            questions: Questions::default(),
            now: NOW,
        }
    }

    fn resolve(&mut self, scene: &Scene) -> (Standing, BTreeSet<Subject>) {
        let home = scene.home();
        self.questions.settle(&home, self.now);
        let mut resolution = self
            .bonds
            .resolve(&self.items, &home, &self.questions, self.now);
        self.questions.take_due(&resolution.wanted, self.now);
        (resolution.entries.remove(0).standing, resolution.wanted)
    }

    fn look(&mut self, scene: &Scene) -> Standing {
        self.resolve(scene).0
    }

    /// As [`look`](Self::look), after nobody has answered what was asked before.
    fn look_later(&mut self, scene: &Scene) -> Standing {
        self.look(scene);
        self.now += PATIENCE;
        self.look(scene)
    }

    fn addresses(&mut self, scene: &Scene) -> Vec<String> {
        let standing = self.look(scene);
        texts(&addresses(&standing))
    }
}

fn addresses(standing: &Standing) -> BTreeSet<IpAddr> {
    let session = standing.ready().unwrap_or_else(|| panic!("{standing:?}"));
    session.matches.iter().map(|m| m.device).collect()
}

fn texts(addresses: &BTreeSet<IpAddr>) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

fn message(standing: Standing) -> (RejectCode, String) {
    match standing {
        Standing::Rejected(rejection) => (rejection.code, rejection.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_declared_address_is_matched_until_it_does_not_answer() {
    let mut course = Course::new(item(
        json!({ "ipv4Address": V4, "ipv6Address": V6 }),
        &Family::ALL,
        json!({}),
    ));
    let scene = Scene::default().live(V4, 0x17);
    assert_eq!(course.addresses(&scene), [V4, V6]);
    assert_eq!(texts(&addresses(&course.look_later(&scene))), [V4]);
    // It is elsewhere.
    let (code, text) = message(course.look(&scene.live(V6, 0x18)));
    assert_eq!(code, RejectCode::DeviceNotFound);
    let expected = format!("{V6} has moved from 02:00:00:00:00:17 to 02:00:00:00:00:18");
    assert_eq!(text, expected);
}

#[test]
fn nobody_is_rejected_before_he_was_asked() {
    let mut course = Course::new(phone(&[Family::V6]));
    let nobody = Scene::default();
    let (standing, wanted) = course.resolve(&nobody);
    assert_eq!(standing, Standing::Probing);
    assert_eq!(wanted, BTreeSet::from([Subject::Address(address(V4))]));
    let (_, text) = message(course.look_later(&nobody));
    assert_eq!(text, format!("{V4} is not on br-lan"));
    // Asked again, it stays rejected meanwhile.
    course.questions.ask_again();
    message(course.look(&nobody));
    // There is nobody else to ask.
    let (_, text) = message(course.look(&nobody.live(V4, 0x17)));
    assert_eq!(text, format!("no IPv6 address known for {V4}"));
}

#[test]
fn a_failed_entry_from_before_is_no_answer() {
    let mut course = Course::new(phone(&[Family::V4]));
    let failed = Scene::default().failed(V4);
    assert_eq!(course.look(&failed), Standing::Probing);
    message(course.look(&failed));
}

#[test]
fn an_order_stays_with_the_mac_that_it_met() {
    let mut course = Course::new(phone(&[Family::V4]));
    assert_eq!(course.addresses(&Scene::default().live(V4, 0x17)), [V4]);
    let (_, text) = message(course.look(&Scene::default().live(V4, 0x18)));
    assert!(
        text.contains("moved from 02:00:00:00:00:17 to 02:00:00:00:00:18"),
        "{text}"
    );
    // Nor while the address is at nobody's.
    assert_eq!(course.look(&Scene::default()), Standing::Probing);
    assert_eq!(course.addresses(&Scene::default().live(V4, 0x17)), [V4]);
    // Another device under the same id is another matter.
    course.items = vec![item(
        json!({ "ipv4Address": "192.168.1.24" }),
        &[Family::V4],
        json!({}),
    )];
    let scene = Scene::default().live("192.168.1.24", 0x18);
    assert_eq!(course.addresses(&scene), ["192.168.1.24"]);
}

#[test]
fn what_is_forgotten_is_kept_until_it_does_not_answer() {
    let mut course = Course::new(phone(&Family::ALL));
    let scene = Scene::default().live(V4, 0x17).live(V6, 0x17);
    assert_eq!(course.addresses(&scene), [V4, V6]);
    let (standing, wanted) = course.resolve(&Scene::default());
    assert_eq!(texts(&addresses(&standing)), [V4, V6]);
    assert_eq!(wanted.len(), 2);
    course.now += PATIENCE;
    let (_, text) = message(course.look(&Scene::default()));
    assert_eq!(text, format!("{V4} is not on br-lan"));
}

#[test]
fn what_an_earlier_run_matched_is_asked_for_and_not_rejected() {
    let by_mac = json!({ "macAddress": "02:00:00:00:00:17" });
    let mut course = Course::new(item(by_mac, &[Family::V6], json!({})));
    let held = ("a".into(), address(V6));
    course.bonds.recall(&course.items, [held].into_iter());
    let (standing, wanted) = course.resolve(&Scene::default());
    assert_eq!(standing, Standing::Probing);
    assert_eq!(wanted, BTreeSet::from([Subject::Address(address(V6))]));
    // Its owner may have changed.
    let stranger = Scene::default().live(V6, 0x18);
    let (_, text) = message(course.look(&stranger));
    assert_eq!(text, "no IPv6 address known for 02:00:00:00:00:17");
    assert_eq!(course.addresses(&Scene::default().live(V6, 0x17)), [V6]);
}

#[test]
fn a_medium_is_that_of_the_port_behind_which_the_device_is() {
    let wifi = json!({ "requiredInterface": "wifi" });
    let mut course = Course::new(item(json!({ "ipv4Address": V4 }), &[Family::V4], wifi));
    let scene = Scene::default().live(V4, 0x17);
    assert_eq!(course.look(&scene), Standing::Probing);
    course.now += PATIENCE;
    let (code, text) = message(course.look(&scene));
    assert_eq!(code, RejectCode::NotOnRequiredInterface);
    assert_eq!(text, "the port of 02:00:00:00:00:17 is not known");
    let on = |port| scene.clone().at(0x17, port);
    assert_eq!(course.addresses(&on("wlan0")), [V4]);
    let (_, text) = message(course.look(&on("lan1")));
    assert_eq!(text, "02:00:00:00:00:17 is on lan1, which is wired");
    assert_eq!(course.addresses(&on("wlan0")), [V4]);

    let wired = json!({ "requiredInterface": "wired" });
    let mut course = Course::new(item(json!({ "ipv4Address": V4 }), &[Family::V4], wired));
    let (_, text) = message(course.look(&on("wlan0")));
    assert_eq!(text, "02:00:00:00:00:17 is on wlan0, which is Wi-Fi");
}

#[test]
fn of_too_many_addresses_those_in_use_stay() {
    // Room for two addresses.
    let ports: Vec<u16> = (0..16).map(|n| 2 * n + 1).collect();
    let more = json!({ "devicePorts": { "ports": ports } });
    let mut course = Course::new(item(json!({ "ipv4Address": V4 }), &[Family::V6], more));
    let name = |host: u8| format!("2001:db8:1::{host}");
    let scene = |hosts: &[(u8, u64)]| {
        hosts
            .iter()
            .fold(Scene::default().live(V4, 0x17), |scene, (host, age)| {
                scene.stale(&name(*host), 0x17, *age)
            })
    };
    let before = scene(&[(1, 50), (2, 30), (3, 40)]);
    assert_eq!(course.addresses(&before), [name(2), name(3)]);
    // Fresher ones change nothing …
    let after = scene(&[(1, 1), (2, 90), (3, 90), (4, 2)]);
    assert_eq!(course.addresses(&after), [name(2), name(3)]);
    // … until one is silent for long.
    let silent = scene(&[(1, 1), (2, 90), (3, 900), (4, 2)]).live(&name(5), 0x17);
    assert_eq!(course.addresses(&silent), [name(2), name(5)]);
}

#[test]
fn a_session_that_is_over_is_over_wherever_its_device_is() {
    let ends = json!({ "expiresIn": 10 });
    let mut course = Course::new(item(json!({ "ipv4Address": V4 }), &[Family::V4], ends));
    assert_eq!(course.look(&Scene::default()), Standing::Probing);
    course.now += Duration::from_secs(10);
    let (standing, wanted) = course.resolve(&Scene::default());
    assert!(standing.ready().is_some() && wanted.is_empty());
}

const ADDRESSES: [&str; 7] = [
    V4,
    "192.168.1.24",
    "192.168.1.25",
    V6,
    "2001:db8:1::24",
    "2001:db8:1::25",
    "fe80::23",
];

type Table = BTreeMap<usize, u8>;

fn table() -> impl Strategy<Value = Table> {
    prop::collection::btree_map(0..ADDRESSES.len(), 1u8..4, 0..ADDRESSES.len())
}

fn scene(table: &Table) -> Scene {
    table.iter().fold(Scene::default(), |scene, (index, last)| {
        scene.live(ADDRESSES[*index], *last)
    })
}

#[derive(Clone, Debug)]
struct Asked {
    v4: Option<usize>,
    v6: Option<usize>,
    mac: Option<u8>,
    servers: Vec<Family>,
}

impl Asked {
    fn item(&self) -> Item {
        let mut device = json!({});
        if let Some(index) = self.v4 {
            device["ipv4Address"] = json!(ADDRESSES[index]);
        }
        if let Some(index) = self.v6 {
            device["ipv6Address"] = json!(ADDRESSES[index]);
        }
        if let Some(last) = self.mac {
            device["macAddress"] = json!(mac(last).to_string());
        }
        item(device, &self.servers, json!({}))
    }

    fn serves(&self, family: Family) -> bool {
        self.servers.is_empty() || self.servers.contains(&family)
    }

    /// Straight from the contract, where nobody who is not in the table answers.
    fn model(&self, table: &Table) -> Option<BTreeSet<IpAddr>> {
        let given = [self.v4, self.v6];
        let seen = given.iter().flatten().filter_map(|index| table.get(index));
        let macs: BTreeSet<u8> = seen.copied().chain(self.mac).collect();
        if macs.len() > 1 {
            return None;
        }
        let mac = macs.first()?;
        let mut matched = BTreeSet::new();
        for (index, last) in table {
            let address = address(ADDRESSES[*index]);
            let family = Family::of(address);
            let given = match family {
                Family::V4 => self.v4,
                Family::V6 => self.v6,
            };
            let is_meant = match given {
                Some(given) => given == *index,
                None => last == mac && *index != 6,
            };
            if is_meant && self.serves(family) {
                matched.insert(address);
            }
        }
        (!matched.is_empty()).then_some(matched)
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let servers = prop_oneof![
        Just(vec![]),
        Just(vec![Family::V4]),
        Just(vec![Family::V6]),
        Just(Family::ALL.to_vec())
    ];
    let ids = (
        prop::option::of(0usize..3),
        prop::option::of(3usize..6),
        prop::option::of(1u8..4),
    );
    let ids = ids.prop_filter("names something", |(v4, v6, mac)| {
        v4.is_some() || v6.is_some() || mac.is_some()
    });
    (ids, servers).prop_map(|((v4, v6, mac), servers)| Asked {
        v4,
        v6,
        mac,
        servers,
    })
}

proptest! {
    #[test]
    fn a_first_meeting_is_as_the_contract_says(asked in asked(), table in table()) {
        let scene = scene(&table);
        let mut course = Course::new(asked.item());
        let standing = course.look_later(&scene);
        prop_assert_ne!(&standing, &Standing::Probing);
        let matched = standing.ready().map(|_| addresses(&standing));
        prop_assert_eq!(matched, asked.model(&table));
        prop_assert_eq!(course.look(&scene), standing, "it does not stay");
    }

    #[test]
    fn no_stranger_is_ever_matched(
        asked in asked(),
        tables in prop::collection::vec((table(), 0u64..5), 1..8),
    ) {
        let mut course = Course::new(asked.item());
        let mut bound = None;
        for (table, seconds) in tables {
            course.now += Duration::from_secs(seconds);
            let standing = course.look(&scene(&table));
            let macs = course.bonds.macs();
            prop_assert!(macs.len() <= 1);
            prop_assert!(bound.is_none() || macs.first() == bound.as_ref(), "the bond has changed");
            bound = macs.first().copied();
            let Some(session) = standing.ready() else { continue };
            prop_assert!(!session.matches.is_empty() && session.matches.len() <= MAX_SESSION_ELEMENTS);
            for address in addresses(&standing) {
                prop_assert!(asked.serves(Family::of(address)));
                let owner = table.iter().find(|(index, _)| ADDRESSES[**index].parse() == Ok(address));
                if let Some((_, last)) = owner {
                    prop_assert_eq!(Some(mac(*last)), bound);
                }
            }
        }
    }
}
