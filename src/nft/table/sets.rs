//! The table's sets and maps.

use super::super::map::{self, Kind, Map};
use super::super::message::{Message, Set, SetElement, Value, ValueType};
use super::{MarkBits, fragment};
use crate::dscp::Dscp;
use crate::flow::Family;
use crate::queue::Queue;

/// Protocols with ports at offsets 0 and 2: TCP, UDP, DCCP, SCTP, UDP-Lite. On others, `th sport` would
/// read something else: an ICMP echo has type and code there.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

pub(super) const PORT_PROTOCOLS: &str = "port_protocols";
/// Mark to the chain of its code point, for fragments.
pub(super) const CHAINS: &str = "chains";
/// Mark to the class of the queue.
pub(super) const CLASSES: &str = "classes";

/// Makes them, and fills those whose elements never change.
pub(super) fn create(bits: MarkBits) -> impl Iterator<Item = Message> {
    let protocols = WITH_PORTS.map(|number| SetElement {
        key: vec![number],
        ..SetElement::default()
    });
    let classes = (0..64).filter_map(Dscp::new).map(move |dscp| SetElement {
        key: bits.of(dscp).to_ne_bytes().to_vec(),
        value: Some(Value::Word(Queue::of(dscp).classid())),
        ..SetElement::default()
    });
    sets().into_iter().map(Message::Set).chain([
        Message::Elements {
            set: PORT_PROTOCOLS,
            elements: protocols.to_vec(),
        },
        Message::Elements {
            set: CLASSES,
            elements: classes.collect(),
        },
    ])
}

fn sets() -> Vec<Set> {
    let set = |name, key| Set {
        name,
        key,
        interval: false,
        timeouts: false,
        counter: false,
        dynamic: None,
        value: None,
    };
    let mut sets = vec![
        set(PORT_PROTOCOLS, vec![map::PROTOCOL]),
        Set {
            value: Some(ValueType::Verdict),
            ..set(CHAINS, vec![map::MARK])
        },
        Set {
            value: Some(ValueType::Word(map::datatype::CLASSID)),
            ..set(CLASSES, vec![map::MARK])
        },
    ];
    for family in Family::ALL {
        sets.push(set(map::devices(family), vec![map::address_part(family)]));
        sets.push(Set {
            dynamic: Some(fragment::REMEMBERED),
            value: Some(ValueType::Word(map::datatype::MARK)),
            ..set(fragment::map(family), fragment::key(family))
        });
    }
    sets.extend(Map::all().map(|map| Set {
        interval: map.kind != Kind::Whole,
        timeouts: true,
        counter: true,
        value: Some(ValueType::Verdict),
        ..set(map.name(), map.key())
    }));
    sets
}
