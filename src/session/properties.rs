//! What comes from the backend is read on the agent's own path, whatever it is.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::read;
use crate::arbitrary::{changed, damaged, json};
use crate::backend::RawInstructions;
use crate::session::Item;

const READ_AT: Duration = Duration::from_secs(1000);
/// Longest message of a rejection: an excerpt.
const LONGEST_MESSAGE: usize = 301;

fn session(id: &str) -> Value {
    json!({ "sessionId": id,
        "device": { "ipv4Address": "192.168.1.23", "ipv6Address": "2001:db8:1::23", "macAddress": "02:00:00:00:00:17" },
        "applicationServer": { "ipv4Address": "198.51.100.0/28", "ipv6Address": "2001:db8:2::/64" },
        "devicePorts": { "ranges": [ { "from": 5010, "to": 5020 } ], "ports": [ 5060 ] },
        "applicationServerPorts": { "ports": [ 33001 ] },
        "dscp": 46, "direction": "both", "expiresIn": 3599.25 })
}

fn document(sessions: &[Value]) -> Value {
    json!({ "revision": 17, "link": { "upstreamKbps": 40000, "downstreamKbps": 200_000 },
        "queues": "auto", "sessions": sessions })
}

/// The agent's path from the body of an answer to sessions; nothing, where it is no instructions.
fn instructed(body: &[u8]) -> Option<(Vec<Item>, Option<String>)> {
    let raw: RawInstructions = serde_json::from_slice(body).ok()?;
    Some(read(&raw.sessions, READ_AT))
}

/// Each message is an excerpt, each order has something to match, and each entry a legal id.
fn well_formed(items: &[Item], nameless: Option<&str>) -> Result<(), TestCaseError> {
    prop_assert!(nameless.is_none_or(|text| text.chars().count() < 2 * LONGEST_MESSAGE));
    for item in items {
        prop_assert!(qod_wire::is_session_id(&item.id));
        match &item.order {
            Ok(order) => {
                let elements = order.families().count() * order.elements_per_address();
                prop_assert!((1..=64).contains(&elements));
                prop_assert!(order.ends.is_none_or(|end| end >= READ_AT));
            }
            Err(rejection) => {
                prop_assert!(rejection.message.chars().count() <= LONGEST_MESSAGE);
            }
        }
    }
    Ok(())
}

/// What is read of a good session that stands alone.
fn alone(id: &str) -> Item {
    let (mut items, _) = instructed(document(&[session(id)]).to_string().as_bytes()).unwrap();
    assert!(items[0].order.is_ok(), "{items:?}");
    items.remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..2000)) {
        if let Some((items, nameless)) = instructed(&body) {
            well_formed(&items, nameless.as_deref())?;
        }
    }

    #[test]
    fn any_json_is_read_or_refused(sessions in prop::collection::vec(json(), 0..4)) {
        let (items, nameless) = instructed(document(&sessions).to_string().as_bytes()).unwrap();
        well_formed(&items, nameless.as_deref())?;
    }

    #[test]
    fn a_changed_document_is_read_or_refused(document in changed(document(&[session("a"), session("b")]))) {
        if let Some((items, nameless)) = instructed(document.to_string().as_bytes()) {
            well_formed(&items, nameless.as_deref())?;
        }
    }

    #[test]
    fn a_damaged_document_is_read_or_refused(
        body in damaged(document(&[session("a"), session("b")]).to_string().into_bytes())
    ) {
        if let Some((items, nameless)) = instructed(&body) {
            well_formed(&items, nameless.as_deref())?;
        }
    }

    #[test]
    fn a_bad_session_costs_none_beside_it(bad in prop_oneof![changed(session("bad")), json()]) {
        prop_assume!(bad["sessionId"] != "a" && bad["sessionId"] != "b");
        let body = document(&[session("a"), bad, session("b")]).to_string();
        let (items, nameless) = instructed(body.as_bytes()).unwrap();
        well_formed(&items, nameless.as_deref())?;
        for id in ["a", "b"] {
            let read = items.iter().find(|item| &*item.id == id);
            prop_assert_eq!(read, Some(&alone(id)));
        }
        prop_assert_eq!(items.len() + usize::from(nameless.is_some()), 3);
    }
}

/// What takes the most time or memory for its bytes.
#[test]
fn the_worst_of_four_megabytes_is_read_in_bounded_time() {
    const SIZE: usize = 4 << 20;
    let within = |start: &str, unit: &str, end: &str| {
        let count = (SIZE - start.len() - end.len()) / unit.len();
        format!("{start}{}{end}", unit.repeat(count))
    };
    let sessions = "{\"revision\":1,\"sessions\":[";
    let bad = "{\"sessionId\":\"b\",\"device\":{\"ipv4Address\":\"192.168.1.24\"},\"dscp\":46";
    let good = session("a");
    let documents = [
        within("", "[", ""),
        within("{\"a\":", "[", ""),
        within(sessions, "[", ""),
        within(sessions, "{\"a\":", ""),
        within(&format!("{sessions}{good},\""), "\\u0000", "\"]}"),
        within(
            &format!("{sessions}{good},{bad},\"devicePorts\":{{\"ports\":["),
            "1,",
            "1]}}]}",
        ),
        within(
            &format!("{sessions}{good},{bad},\"devicePorts\":{{\"ranges\":["),
            "{\"from\":1,\"to\":2},",
            "0]}}]}",
        ),
        within(&format!("{sessions}{good},{bad},\"x\":\""), "x", "\"}]}"),
        within(
            &format!("{sessions}{good},{{\"sessionId\":\""),
            "x",
            "\"}]}",
        ),
        within(
            &format!("{sessions}{good},{{\"sessionId\":\"b\",\"device\":{{\"macAddress\":\""),
            ":",
            "\"},\"dscp\":1}]}",
        ),
        within(
            &format!("{sessions}{good},{{\"sessionId\":\"b\",\"device\":{{\"ipv6Address\":\""),
            ":",
            "\"},\"dscp\":1}]}",
        ),
        within(
            &format!("{sessions}{good},{bad},\"expiresIn\":"),
            "9",
            "}]}",
        ),
        within(&format!("{sessions}{good}"), ",{\"sessionId\":\"b\"}", "]}"),
        within(&format!("{sessions}{good}"), " ", "]}"),
    ];
    for document in documents {
        let begin: String = document.chars().take(200).collect();
        let began = Instant::now();
        let read = instructed(document.as_bytes());
        // Without optimisation, and with others on the machine.
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{begin}: {:?}",
            began.elapsed()
        );
        if let Some((items, nameless)) = read {
            assert_eq!(items[0], alone("a"), "{begin}");
            well_formed(&items, nameless.as_deref()).unwrap();
        }
    }
}
